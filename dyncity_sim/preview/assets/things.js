// What stands, moves and is drawn among the voxels: the ego, boxes with ids, ribbons on the ground, LiDAR points.
import * as THREE from 'three';

// Ribbons and points come forward a little, out of the voxels on whose faces they lie.
const RIBBON = { transparent: true, depthWrite: false, side: THREE.DoubleSide, polygonOffset: true, polygonOffsetFactor: -2, polygonOffsetUnits: -8 };

export function litBox(size, centre, colour) {
  const geometry = new THREE.BoxGeometry(...size).translate(...centre).toNonIndexed(), base = new THREE.Color(colour);
  const light = [.8, .72, .68, .84, 1, .5].flatMap(l => Array(6).fill(l));
  geometry.setAttribute('color', new THREE.Float32BufferAttribute(light.flatMap(l => [base.r * l, base.g * l, base.b * l]), 3));
  return new THREE.Mesh(geometry, new THREE.MeshBasicMaterial({ vertexColors: true }));
}

export function plate(grid) {
  const size = grid.shape.map((n, i) => n * grid.voxel_size_m[i]), lower = grid.lower_m;
  const box = litBox([size[0], size[1], .3], [lower[0] + size[0] / 2, lower[1] + size[1] / 2, lower[2] - .16], 0xe8e7e3);
  // Most of it is hidden: what lies before it comes first.
  box.renderOrder = 1;
  return box;
}

export function egoCar(height) {
  const car = new THREE.Group();
  car.add(litBox([4.6, 1.9, .75], [.4, 0, .6 - height], 0xf7931e), litBox([2.3, 1.7, .55], [.1, 0, 1.25 - height], 0x4a3a28));
  car.matrixAutoUpdate = false;
  return car;
}

export function trackColour(id) {
  return new THREE.Color().setHSL((.09 + id * .618034) % 1, .9, .68);
}

// Each track as an object whose matrix is its pose; place() shows those of a frame.
export class Tracks extends THREE.Group {
  constructor(tracks, moved, opacity) {
    super();
    this.shown = tracks.map(track => {
      const group = new THREE.Group(), colour = trackColour(track.id), tag = nameTag(`${track.id}`, colour);
      tag.position.set(0, 0, track.size_m[2] / 2 + .7);
      group.add(boxFrame(track.size_m, colour), boxBody(track.size_m, colour, opacity), tag);
      group.matrixAutoUpdate = false;
      const poses = track.poses_world_from_actor.map(moved), bottom = -track.size_m[2] / 2;
      const ground = poses.map(pose => new THREE.Vector3(0, 0, bottom).applyMatrix4(pose));
      return { group, tag, colour, poses, ground, frames: track.frames, at: new Map(track.frames.map((frame, i) => [frame, i])) };
    });
    this.add(...this.shown.map(track => track.group));
  }

  place(frame, on) {
    for (const { group, poses, at } of this.shown) {
      group.visible = on && at.has(frame);
      if (group.visible) { group.matrix.copy(poses[at.get(frame)]); group.matrixWorldNeedsUpdate = true; }
    }
  }

  // Tags are as high as asked, in units of the view's distance.
  scaleTags(height) {
    for (const { tag } of this.shown) tag.scale.set(height * 128 / 56, height, 1);
  }

  // Where those that are in sight came from, paler with age.
  trails(frame, length, lift) {
    const strips = this.shown.filter(track => track.at.has(frame)).map(({ ground, frames, colour, at }) => {
      const points = [], fade = [];
      for (let i = at.get(frame); i >= 0 && frame - frames[i] <= length; i--) {
        points.push(ground[i]);
        fade.push(1 - (frame - frames[i]) / (length + 1));
      }
      return { points, colour, fade };
    });
    return strips.map(strip => ({ ...strip, half: .16, lift }));
  }
}

// Twelve bars along a box's edges and one that points ahead.
function boxFrame(size, colour) {
  const bar = .07, [l, w, h] = size, bars = [[[.9, bar, bar], [l / 2 + .45, 0, 0]]];
  for (const a of [-1, 1]) for (const b of [-1, 1]) bars.push(
    [[l + bar, bar, bar], [0, a * w / 2, b * h / 2]], [[bar, w + bar, bar], [a * l / 2, 0, b * h / 2]],
    [[bar, bar, h + bar], [a * l / 2, b * w / 2, 0]]);
  const positions = bars.flatMap(([s, c]) => [...new THREE.BoxGeometry(...s).translate(...c).toNonIndexed().attributes.position.array]);
  const geometry = new THREE.BufferGeometry().setAttribute('position', new THREE.Float32BufferAttribute(positions, 3));
  return new THREE.Mesh(geometry, new THREE.MeshBasicMaterial({ color: colour }));
}

function boxBody(size, colour, opacity) {
  const body = litBox(size, [0, 0, 0], colour);
  Object.assign(body.material, { transparent: true, opacity, depthWrite: false });
  return body;
}

function nameTag(text, colour) {
  const canvas = document.createElement('canvas'), pen = canvas.getContext('2d');
  canvas.width = 128; canvas.height = 56;
  pen.font = '600 34px system-ui, sans-serif'; pen.textAlign = 'center';
  const width = Math.min(pen.measureText(text).width + 32, 120);
  pen.fillStyle = `#${colour.getHexString()}`; pen.strokeStyle = 'rgba(20,26,34,.8)'; pen.lineWidth = 3;
  pen.beginPath(); pen.roundRect(64 - width / 2, 5, width, 46, 16); pen.fill(); pen.stroke();
  pen.fillStyle = '#141a22'; pen.fillText(text, 64, 40);
  const sprite = new THREE.Sprite(new THREE.SpriteMaterial({ map: new THREE.CanvasTexture(canvas), depthTest: false, sizeAttenuation: false }));
  sprite.renderOrder = 2;
  return sprite;
}

// Flat bands along lines of points, in one mesh.
export class Ribbons extends THREE.Mesh {
  constructor() {
    super(new THREE.BufferGeometry(), new THREE.MeshBasicMaterial({ ...RIBBON, vertexColors: true }));
    this.frustumCulled = false;
  }

  // strips: {points, half (width), lift, colour, fade (opacity of each point)}
  draw(strips) {
    const positions = [], colours = [];
    for (const { points, half, lift, colour, fade } of strips) {
      const kept = points.map((_, i) => i).filter(i => !i || points[i].distanceToSquared(points[i - 1]) > 1e-4);
      const edges = kept.map((i, n) => {
        const p = points[i], before = points[kept[Math.max(n - 1, 0)]], after = points[kept[Math.min(n + 1, kept.length - 1)]];
        const dx = after.x - before.x, dy = after.y - before.y, norm = half / Math.max(Math.hypot(dx, dy), 1e-9);
        return [[p.x - dy * norm, p.y + dx * norm, p.z + lift], [p.x + dy * norm, p.y - dx * norm, p.z + lift], [colour.r, colour.g, colour.b, fade[i]]];
      });
      for (let n = 1; n < edges.length; n++) {
        const [a, b, old] = edges[n - 1], [c, d, now] = edges[n];
        positions.push(...a, ...b, ...c, ...c, ...b, ...d);
        colours.push(...old, ...old, ...now, ...now, ...old, ...now);
      }
    }
    this.geometry.dispose();
    this.geometry = new THREE.BufferGeometry()
      .setAttribute('position', new THREE.Float32BufferAttribute(positions, 3))
      .setAttribute('color', new THREE.Float32BufferAttribute(colours, 4));
  }
}

const EIGHTHS = [0, 4, 2, 6, 1, 5, 3, 7];

// LiDAR points of one frame after another. Packed: for each frame the low and then the high bytes of x, of y and of z
// as differences from point to point, and then the labels. In the buffer, every eighth point comes first, then those
// in the middle between them, and so on: so a beginning of the buffer is a sweep with fewer points. A point is two
// words, of four halves: x, y, z, label. Whole words go to any card as they are.
export class Points extends THREE.Points {
  constructor({ counts, unit_m }, packed, classes, visible) {
    const most = Math.max(...counts, 1), geometry = new THREE.BufferGeometry();
    geometry.setAttribute('point', new THREE.BufferAttribute(new Int32Array(2 * most), 2).setUsage(THREE.DynamicDrawUsage));
    super(geometry, pointMaterial(classes, visible));
    this.frustumCulled = false;
    this.scale.setScalar(unit_m);
    this.counts = counts;
    this.packed = packed;
    this.halves = new Int16Array(geometry.attributes.point.array.buffer);
    this.to = new Int32Array(8);
    this.shown = this.sent = 0;
    this.starts = counts.map((_, frame) => 7 * counts.slice(0, frame).reduce((a, b) => a + b, 0));
  }

  build(frame) {
    const { to, packed, halves } = this, n = this.counts[frame], start = this.starts[frame], labels = start + 6 * n;
    for (let turn = 0, first = 0; turn < 8; turn++) {
      to[EIGHTHS[turn]] = first;
      first += n + 7 - EIGHTHS[turn] >> 3;
    }
    for (let axis = 0; axis < 3; axis++) {
      const low = start + 2 * axis * n, high = low + n;
      for (let i = 0, value = 0; i < n; i++) {
        value = value + packed[low + i] + (packed[high + i] << 8) & 0xffff;
        halves[4 * (to[i & 7] + (i >> 3)) + axis] = value;
      }
    }
    for (let i = 0; i < n; i++) halves[4 * (to[i & 7] + (i >> 3)) + 3] = packed[labels + i];
    this.shown = n;
    this.sent = 0;
    return n;
  }

  // Draw a share of them. Something one unit long at a distance of one unit is so many pixels long; points are from two to
  // nine of the pixels of which finest make one of the screen's.
  draw(share, pixels, finest) {
    const count = Math.ceil(share * this.shown), { point } = this.geometry.attributes;
    if (count > this.sent) {
      point.clearUpdateRanges();
      point.addUpdateRange(0, 2 * count);
      point.needsUpdate = true;
      this.sent = count;
    }
    this.geometry.setDrawRange(0, count);
    this.material.uniforms.pixels.value = pixels;
    this.material.uniforms.finest.value = finest;
  }
}

// Round points in the colour of their class with a dark rim.
function pointMaterial(classes, visible) {
  const palette = classes.map(c => new THREE.Vector3(...c.colour).divideScalar(255));
  return new THREE.ShaderMaterial({
    uniforms: { palette: { value: palette }, visible: { value: visible }, pixels: { value: 1 }, finest: { value: 1 }, pale: { value: 0 } },
    vertexShader: `
      uniform vec3 palette[${classes.length}]; uniform float visible[${classes.length}]; uniform float pixels; uniform float finest; uniform float pale;
      attribute ivec2 point;
      varying vec3 vTint; varying float vRim;
      void main() {
        int k = point.y >> 16;
        vec4 at = modelViewMatrix * vec4(point.x << 16 >> 16, point.x >> 16, point.y << 16 >> 16, 1.);
        float away = length(at.xyz);
        at.xyz *= 1. - min(.15, .5 * away) / away;
        gl_Position = visible[k] > .5 ? projectionMatrix * at : vec4(2., 2., 2., 1.);
        gl_PointSize = clamp(.13 * pixels / away, 2. * finest, 9. * finest);
        vTint = mix(palette[k], vec3(1.), pale);
        vRim = gl_PointSize < 4. * finest ? 1. : .4;
      }`,
    fragmentShader: `
      varying vec3 vTint; varying float vRim;
      void main() {
        float r = length(gl_PointCoord - .5);
        if (r > .5) discard;
        gl_FragColor = vec4(vTint * (r > .36 ? vRim : 1.), 1.);
      }`,
  });
}
