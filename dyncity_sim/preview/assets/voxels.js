// Visible faces of a labelled voxel grid, lit, merged into rectangles, and how these are drawn: four vertices to each.
// Instances of one rectangle would take less memory, and far longer: graphics cards and software alike work in batches
// of vertices.
import * as THREE from 'three';

// Faces: axis of the normal, its sign, the two axes in the plane, light.
const FACES = [[2, 1, 0, 1, 1], [0, -1, 1, 2, .72], [1, -1, 0, 2, .84], [0, 1, 1, 2, .8], [1, 1, 0, 2, .68]];
const OCCLUSION = [1, .9, .8, .68].map(share => 255 * share);
const SUN_SLOPE = [-.42, .78], SHADOW = .62;
// Occlusion and sun (a sum of four shares of 255) together.
const LIGHT = OCCLUSION.map(open => Uint8Array.from({ length: 1021 }, (_, sun) => open * (SHADOW + (1 - SHADOW) * sun / 1020)));

// Whether the light of four corners, a byte to each, stays the same along u, along v.
const evenAlongU = light => !((light >>> 8 ^ light) & 0xff00ff), evenAlongV = light => !((light >>> 16 ^ light) & 0xffff);

export class Mesher {
  constructor([nx, ny, nz]) {
    Object.assign(this, { nx, ny, nz });
    // The padded copy of a frame has one free cell around it, so that neighbours need no bounds checks.
    this.py = nz + 2;
    this.px = (ny + 2) * this.py;
    this.padded = new Uint8Array((nx + 2) * this.px);
    this.sun = new Uint8Array(this.padded.length);
    const step = [this.px, this.py, 1];
    this.front = FACES.map(([normal, sign]) => sign * step[normal]);
    this.u = FACES.map(([, , u]) => step[u]);
    this.v = FACES.map(([, , , v]) => step[v]);
    // Of each layer and face, the run along y that may go on: its first cell, the one after its last, what it shows.
    for (const name of ['first', 'after', 'code', 'light']) this[name] = new Int32Array(5 * nz);
    // The rectangle that began last at a y, of each layer and face.
    this.latest = new Int32Array(5 * nz * ny);
    this.words = new Int32Array(1 << 15);
  }

  // Take over one frame: labels[first...] of the classes that are visible, where the bits of seen are set.
  take(labels, first, visible, seen) {
    const { nx, ny, nz, px, py, padded } = this, counts = new Int32Array(256);
    padded.fill(0);
    for (let x = 0, i = first; x < nx; x++) for (let y = 0; y < ny; y++) {
      const row = (x + 1) * px + (y + 1) * py + 1;
      for (let z = 0; z < nz; z++, i++) {
        const k = labels[i];
        counts[k]++;
        if (k && visible[k] && (!seen || seen[i >> 3] >> 7 - (i & 7) & 1)) padded[row + z] = k;
      }
    }
    this.shine();
    return counts;
  }

  // Share of the sun that reaches each padded cell, followed upwards layer by layer, bilinear.
  shine() {
    const { nx, ny, nz, px, py, padded, sun } = this, [sx, sy] = SUN_SLOPE, fx = Math.floor(sx), fy = Math.floor(sy);
    const wx = sx - fx, wy = sy - fy, a = (1 - wx) * (1 - wy), b = (1 - wx) * wy, c = wx * (1 - wy), d = wx * wy;
    const inside = (i, n) => Math.min(Math.max(i, 0), n + 1);
    sun.fill(255);
    for (let z = nz - 1; z >= 0; z--) for (let x = 0; x < nx + 2; x++) {
      const x0 = inside(x + fx, nx) * px + z + 2, x1 = inside(x + fx + 1, nx) * px + z + 2;
      for (let y = 0; y < ny + 2; y++) {
        const y0 = inside(y + fy, ny) * py, y1 = inside(y + fy + 1, ny) * py;
        sun[x * px + y * py + z + 1] = .5 + a * (padded[x0 + y0] ? 0 : sun[x0 + y0]) + b * (padded[x0 + y1] ? 0 : sun[x0 + y1])
          + c * (padded[x1 + y0] ? 0 : sun[x1 + y0]) + d * (padded[x1 + y1] ? 0 : sun[x1 + y1]);
      }
    }
  }

  // Merge the faces of what was taken into rectangles of one class in one plane: runs along y where the light stays the
  // same along y, and equal runs of neighbouring x where it does along x. A rectangle is four words: x and y of its
  // first cell, a half each; z and 8 * label + face; cells along x and along y; light at its corners. Returns how many
  // rectangles there are, and how many faces.
  fill() {
    const { nx, ny, nz, px, py, padded, sun, first, after, code, light } = this;
    let faces = 0;
    this.count = 0;
    this.latest.fill(-1);
    for (let x = 0; x < nx; x++) {
      for (let y = 0; y < ny; y++) for (let z = 0, at = (x + 1) * px + (y + 1) * py + 1; z < nz; z++, at++) {
        const k = padded[at];
        if (!k) continue;
        for (let f = 0; f < 5; f++) {
          const front = at + this.front[f], u = this.u[f], v = this.v[f], own = sun[front];
          if (padded[front]) continue;
          faces++;
          let corners = 0;
          for (let corner = 0; corner < 4; corner++) {
            // Ambient occlusion by the three cells around a corner, and the sun in the cells before it.
            const a = front + (corner & 1 ? u : -u), dv = corner & 2 ? v : -v, b = front + dv, c = a + dv;
            const p = padded[a], q = padded[b], r = padded[c], closed = p && q ? 3 : (p > 0) + (q > 0) + (r > 0);
            corners |= LIGHT[closed][own + (p ? own : sun[a]) + (q ? own : sun[b]) + (r ? own : sun[c])] << 8 * corner;
          }
          const run = 5 * z + f, shows = 8 * k + f, grows = f === 0 ? evenAlongV(corners) : f & 1 && evenAlongU(corners);
          if (grows && after[run] === y && code[run] === shows && light[run] === corners) after[run]++;
          else {
            this.close(run, x);
            first[run] = y; after[run] = y + 1; code[run] = shows; light[run] = corners;
          }
        }
      }
      for (let run = 0; run < 5 * nz; run++) this.close(run, x);
    }
    return { faces, count: this.count };
  }

  // A run along y at x has ended: widen the rectangle before it, or begin one.
  close(run, x) {
    const code = this.code[run], light = this.light[run], y = this.first[run], long = this.after[run] - y;
    if (!code) return;
    this.code[run] = 0;
    const place = 5 * this.nz * y + run, upper = (run / 5 | 0) | code << 16, before = 4 * this.latest[place];
    let { words } = this;
    if (before >= 0 && !(code & 1) && evenAlongU(light) && words[before + 1] === upper && words[before + 3] === light
      && words[before + 2] >>> 16 === long && (words[before] & 0xffff) + (words[before + 2] & 0xffff) === x) {
      words[before + 2]++;
      return;
    }
    const at = 4 * this.count;
    if (at === words.length) {
      this.words = new Int32Array(2 * at);
      this.words.set(words);
      words = this.words;
    }
    words[at] = x | y << 16; words[at + 1] = upper; words[at + 2] = 1 | long << 16; words[at + 3] = light;
    this.latest[place] = this.count++;
  }
}

export class VoxelMesh extends THREE.Mesh {
  constructor(grid, material) {
    super(new THREE.BufferGeometry(), material);
    this.mesher = new Mesher(grid.shape);
    this.frustumCulled = false;
    this.scale.set(...grid.voxel_size_m);
    this.position.set(...grid.lower_m);
    this.allocate(1 << 13);
  }

  allocate(room) {
    const geometry = new THREE.BufferGeometry(), index = new Uint32Array(6 * room);
    for (let at = 0; at < room; at++) index.set([0, 1, 2, 3, 0, 2].map(corner => 4 * at + corner), 6 * at);
    geometry.setIndex(new THREE.BufferAttribute(index, 1));
    geometry.setAttribute('quad', new THREE.BufferAttribute(new Int32Array(16 * room), 4).setUsage(THREE.DynamicDrawUsage));
    this.geometry.dispose();
    this.geometry = geometry;
  }

  // Show one frame; returns how often each label occurs in it, how many faces are seen, in how many rectangles.
  build(labels, first, visible, seen) {
    const counts = this.mesher.take(labels, first, visible, seen), { faces, count } = this.mesher.fill(), { words } = this.mesher;
    if (16 * count > this.geometry.attributes.quad.array.length) this.allocate(count + (count >> 2));
    const { quad } = this.geometry.attributes;
    for (let from = 0, to = 0; from < 4 * count; from += 4) for (let corner = 0; corner < 4; corner++, to += 4) {
      quad.array[to] = words[from]; quad.array[to + 1] = words[from + 1];
      quad.array[to + 2] = words[from + 2]; quad.array[to + 3] = words[from + 3];
    }
    quad.clearUpdateRanges();
    quad.addUpdateRange(0, 16 * count);
    quad.needsUpdate = true;
    this.geometry.setDrawRange(0, 6 * count);
    return { counts, faces, rectangles: count };
  }
}

// Colours of classes, a little lighter with height, and a little uneven from cell to cell where nothing moves. Cells
// are swollen a little, so that no gap shows where a corner of one rectangle meets the edge of another.
export function voxelMaterial(classes, layers) {
  const grain = classes.map(c => c.moves ? 0 : c.name === 'vegetation' ? .16 : .035);
  const palette = classes.map(c => new THREE.Vector3(...c.colour).divideScalar(255));
  return new THREE.ShaderMaterial({
    uniforms: { palette: { value: palette }, grain: { value: grain } },
    vertexShader: `
      uniform vec3 palette[${classes.length}]; uniform float grain[${classes.length}];
      attribute ivec4 quad;
      varying vec3 vAt; varying vec2 vUv; flat varying vec3 vTint; flat varying vec4 vLight; flat varying vec3 vFace;
      void main() {
        ivec3 low = quad.xyz & 0xffff, high = quad.xyz >> 16 & 0xffff;
        int f = high.y & 7, k = high.y >> 3, corner = gl_VertexID & 3;
        vec3 cell = vec3(low.x, high.x, low.y), size = vec3(low.z, high.z, 1);
        // Corners go round counter-clockwise as seen from outside.
        vec2 c = vec2((corner == 1 || corner == 2) != (f == 1 || f == 4), corner >= 2);
        vec3 part = f == 0 ? vec3(c, 1) : (f & 1) == 1 ? vec3(f == 3, c) : vec3(c.x, f == 4, c.y);
        vec3 normal = f == 0 ? vec3(0, 0, 1) : (f & 1) == 1 ? vec3(f - 2, 0, 0) : vec3(0, f - 3, 0);
        vec3 at = cell + part * size + .01 * (2. * part - 1.);
        float side = f == 0 ? 1. : f == 1 ? ${FACES[1][4]} : f == 2 ? ${FACES[2][4]} : f == 3 ? ${FACES[3][4]} : ${FACES[4][4]};
        vTint = mix(palette[k], vec3(1.), .22 * cell.z / ${Math.max(layers - 1, 1)}.);
        vFace = vec3(side, grain[k], f == 0 ? .035 : .09);
        vLight = vec4(quad.w & 255, quad.w >> 8 & 255, quad.w >> 16 & 255, quad.w >> 24 & 255) / 255.;
        vUv = c; vAt = at - .5 * normal;
        gl_Position = projectionMatrix * (modelViewMatrix * vec4(at, 1.));
      }`,
    fragmentShader: `
      varying vec3 vAt; varying vec2 vUv; flat varying vec3 vTint; flat varying vec4 vLight; flat varying vec3 vFace;
      float uneven(ivec3 at) {
        int m = at.x * 73856093 ^ at.y * 19349663 ^ at.z * 83492791;
        m = (m ^ int(uint(m) >> 13)) * 1540483477;
        return float((uint(m) >> 12) % 1024u) / 1023. - .5;
      }
      void main() {
        float l = mix(mix(vLight.x, vLight.y, vUv.x), mix(vLight.z, vLight.w, vUv.x), vUv.y);
        vec3 cell = floor(vAt), e = .5 - abs(vAt - cell - .5), w = fwidth(vAt);
        float wide = max(max(w.x, w.y), w.z), edge = min(min(e.x, e.y), e.z);
        float rim = 1. - smoothstep(.05, .05 + max(wide, .01), edge);
        rim *= clamp(.5 / wide - 1., 0., 1.);
        vec3 tint = min(vTint * (1. + vFace.y * uneven(ivec3(cell))), 1.) * vFace.x;
        gl_FragColor = vec4(tint * l * (1. - rim * vFace.z), 1.);
      }`,
  });
}
