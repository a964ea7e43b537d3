// Visible faces of a labelled voxel grid, lit, and how they are drawn: four vertices to a face. Instances of one quad
// would take less memory, and far longer: graphics cards and software alike work in batches of vertices.
import * as THREE from 'three';

// Faces: axis of the normal, its sign, the two axes in the plane, light.
const FACES = [[2, 1, 0, 1, 1], [0, -1, 1, 2, .72], [1, -1, 0, 2, .84], [0, 1, 1, 2, .8], [1, 1, 0, 2, .68]];
const OCCLUSION = [1, .9, .8, .68].map(share => 255 * share);
const SUN_SLOPE = [-.42, .78], SHADOW = .62;
// Occlusion and sun (a sum of four shares of 255) together.
const LIGHT = OCCLUSION.map(open => Uint8Array.from({ length: 1021 }, (_, sun) => open * (SHADOW + (1 - SHADOW) * sun / 1020)));

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

  // Write the faces of what was taken: x, y, z, 8 * label + face for each of four vertices, and the light at the four
  // corners for the third, which is the last of both triangles and so speaks for the face. Returns how many faces
  // there are, which may be more than there was room for.
  fill(cell, light) {
    const { nx, ny, nz, px, py, padded, sun } = this, room = cell.length / 16;
    let faces = 0;
    for (let x = 0; x < nx; x++) for (let y = 0; y < ny; y++) {
      const row = (x + 1) * px + (y + 1) * py + 1;
      for (let z = 0; z < nz; z++) {
        const at = row + z, k = padded[at];
        if (!k) continue;
        for (let f = 0; f < 5; f++) {
          const front = at + this.front[f];
          if (padded[front]) continue;
          if (faces < room) {
            const o = 16 * faces + 8, own = sun[front];
            for (let w = o - 8; w < o + 8; w += 4) {
              cell[w] = x; cell[w + 1] = y; cell[w + 2] = z; cell[w + 3] = 8 * k + f;
            }
            for (let corner = 0; corner < 4; corner++) {
              // Ambient occlusion by the three cells around a corner, and the sun in the cells before it.
              const u = front + (corner & 1 ? this.u[f] : -this.u[f]), dv = corner & 2 ? this.v[f] : -this.v[f];
              const p = padded[u], q = padded[front + dv], r = padded[u + dv];
              const closed = p && q ? 3 : (p > 0) + (q > 0) + (r > 0);
              light[o + corner] = LIGHT[closed][own + (p ? own : sun[u]) + (q ? own : sun[front + dv]) + (r ? own : sun[u + dv])];
            }
          }
          faces++;
        }
      }
    }
    return faces;
  }
}

export class VoxelMesh extends THREE.Mesh {
  constructor(grid, material) {
    super(new THREE.BufferGeometry(), material);
    this.mesher = new Mesher(grid.shape);
    this.frustumCulled = false;
    this.scale.set(...grid.voxel_size_m);
    this.position.set(...grid.lower_m);
    this.allocate(1 << 15);
  }

  allocate(room) {
    const geometry = new THREE.BufferGeometry(), index = new Uint32Array(6 * room);
    for (let face = 0; face < room; face++) index.set([0, 1, 2, 3, 0, 2].map(corner => 4 * face + corner), 6 * face);
    geometry.setIndex(new THREE.BufferAttribute(index, 1));
    geometry.setAttribute('cell', new THREE.BufferAttribute(new Uint16Array(16 * room), 4));
    geometry.setAttribute('light', new THREE.BufferAttribute(new Uint8Array(16 * room), 4, true));
    for (const name of ['cell', 'light']) geometry.attributes[name].setUsage(THREE.DynamicDrawUsage);
    this.geometry.dispose();
    this.geometry = geometry;
  }

  // Show one frame; returns how often each label occurs in it, and how many faces are drawn.
  build(labels, first, visible, seen) {
    const counts = this.mesher.take(labels, first, visible, seen), fill = () => {
      const { cell, light } = this.geometry.attributes;
      return this.mesher.fill(cell.array, light.array);
    };
    let faces = fill();
    if (16 * faces > this.geometry.attributes.cell.array.length) {
      this.allocate(faces + (faces >> 2));
      faces = fill();
    }
    this.geometry.setDrawRange(0, 6 * faces);
    for (const name of ['cell', 'light']) {
      const attribute = this.geometry.attributes[name];
      attribute.clearUpdateRanges();
      attribute.addUpdateRange(0, 16 * faces);
      attribute.needsUpdate = true;
    }
    return { counts, faces };
  }
}

// Colours of classes, a little lighter with height, and a little uneven from cell to cell where nothing moves.
export function voxelMaterial(classes, layers) {
  const grain = classes.map(c => c.moves ? 0 : c.name === 'vegetation' ? .16 : .035);
  const palette = classes.map(c => new THREE.Vector3(...c.colour).divideScalar(255));
  return new THREE.ShaderMaterial({
    side: THREE.DoubleSide,
    uniforms: { palette: { value: palette }, grain: { value: grain } },
    vertexShader: `
      uniform vec3 palette[${classes.length}]; uniform float grain[${classes.length}];
      attribute vec4 cell; attribute vec4 light;
      varying vec2 vUv; flat varying vec3 vTint; flat varying vec4 vLight; flat varying float vUp;
      float uneven(ivec3 at) {
        int m = at.x * 73856093 ^ at.y * 19349663 ^ at.z * 83492791;
        m = (m ^ int(uint(m) >> 13)) * 1540483477;
        return float((uint(m) >> 12) % 1024u) / 1023. - .5;
      }
      void main() {
        int code = int(cell.w + .5), f = code & 7, k = code >> 3;
        vec3 at = cell.xyz; int corner = gl_VertexID & 3;
        vec2 c = vec2(corner == 1 || corner == 2, corner >= 2);
        if (f == 0) at += vec3(c, 1.);
        else if (f == 1) at += vec3(0., c); else if (f == 3) at += vec3(1., c);
        else if (f == 2) at += vec3(c.x, 0., c.y); else at += vec3(c.x, 1., c.y);
        float side = f == 0 ? 1. : f == 1 ? ${FACES[1][4]} : f == 2 ? ${FACES[2][4]} : f == 3 ? ${FACES[3][4]} : ${FACES[4][4]};
        vec3 tint = mix(palette[k], vec3(1.), .22 * cell.z / ${Math.max(layers - 1, 1)}.);
        vTint = min(tint * (1. + grain[k] * uneven(ivec3(cell.xyz))), 1.) * side;
        vUv = c; vLight = light; vUp = f == 0 ? 1. : 0.;
        gl_Position = projectionMatrix * modelViewMatrix * vec4(at, 1.);
      }`,
    fragmentShader: `
      varying vec2 vUv; flat varying vec3 vTint; flat varying vec4 vLight; flat varying float vUp;
      void main() {
        float l = mix(mix(vLight.x, vLight.y, vUv.x), mix(vLight.z, vLight.w, vUv.x), vUv.y);
        vec2 e = min(vUv, 1. - vUv), w = fwidth(vUv);
        float rim = 1. - smoothstep(.05, .05 + max(max(w.x, w.y), .01), min(e.x, e.y));
        rim *= clamp(.5 / max(w.x, w.y) - 1., 0., 1.);
        gl_FragColor = vec4(vTint * l * (1. - rim * mix(.09, .035, vUp)), 1.);
      }`,
  });
}
