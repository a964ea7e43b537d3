// Plays a drive of labelled voxel grids. Frames: world is x east, y north, z up; grids lie in the ego frame.
import * as THREE from 'three';
import { OrbitControls } from 'orbit-controls';

const drive = JSON.parse(document.getElementById('drive').textContent);
const element = id => document.getElementById(id);
const [nx, ny, nz] = drive.grid.shape;
const cells = nx * ny * nz;

// The padded copy of a frame has one free cell around it, so that neighbours need no bounds checks.
const py = nz + 2, px = (ny + 2) * py;
const padded = new Uint8Array((nx + 2) * px);
const sun = new Float32Array(padded.length);
const STEP = [px, py, 1];
// Faces: axis of the normal, its sign, the two axes in the plane, light.
const FACES = [[2, 1, 0, 1, 1], [0, -1, 1, 2, .72], [1, -1, 0, 2, .84], [0, 1, 1, 2, .8], [1, 1, 0, 2, .68]];
const OCCLUSION = [1, .9, .8, .68];
const SUN_SLOPE = [-.42, .78], SHADOW = .62;
const VEGETATION = drive.classes.findIndex(c => c.name === 'vegetation');

async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

class VoxelView {
  constructor(name, labels, observed) {
    this.name = name;
    this.labels = labels;
    this.observed = observed;
    this.scene = new THREE.Scene();
    this.placed = new THREE.Group();
    this.placed.matrixAutoUpdate = false;
    this.scene.add(this.placed);
    this.capacity = 1 << 16;
    this.mesh = new THREE.Mesh(new THREE.InstancedBufferGeometry(), voxelMaterial());
    this.mesh.frustumCulled = false;
    this.mesh.scale.set(...drive.grid.voxel_size_m);
    this.mesh.position.set(...drive.grid.lower_m);
    this.placed.add(this.mesh, plate(), ego());
    this.way = new THREE.Mesh(new THREE.BufferGeometry(), new THREE.MeshBasicMaterial(
      { color: 0xffb52e, transparent: true, opacity: .75, depthWrite: false, side: THREE.DoubleSide }));
    this.scene.add(this.way);
    this.boxes = new THREE.Group();
    this.scene.add(this.boxes);
    this.allocate();
  }

  allocate() {
    const geometry = new THREE.InstancedBufferGeometry();
    geometry.setAttribute('position', new THREE.Float32BufferAttribute([0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0], 3));
    geometry.setIndex([0, 1, 2, 0, 2, 3]);
    const attribute = normalized => new THREE.InstancedBufferAttribute(new Uint8Array(4 * this.capacity), 4, normalized)
      .setUsage(THREE.DynamicDrawUsage);
    for (const [name, normalized] of [['cell', false], ['tint', true], ['light', true]])
      geometry.setAttribute(name, attribute(normalized));
    this.mesh.geometry.dispose();
    this.mesh.geometry = geometry;
  }

  show(frame, visible) {
    const from = this.labels.subarray(frame * cells, (frame + 1) * cells);
    const counts = new Int32Array(256), seen = element('seen').checked ? this.observed : null, first = frame * cells;
    padded.fill(0);
    for (let x = 0, i = 0; x < nx; x++) for (let y = 0; y < ny; y++) {
      const row = (x + 1) * px + (y + 1) * py + 1;
      for (let z = 0; z < nz; z++, i++) {
        const k = from[i], bit = first + i;
        counts[k]++;
        if (visible[k] && !(seen && !(seen[bit >> 3] >> 7 - (bit & 7) & 1))) padded[row + z] = k;
      }
    }
    shine();
    let faces = this.fill();
    while (faces > this.capacity) { while (this.capacity < faces) this.capacity *= 2; this.allocate(); faces = this.fill(); }
    const geometry = this.mesh.geometry;
    geometry.instanceCount = faces;
    for (const name of ['cell', 'tint', 'light']) geometry.attributes[name].needsUpdate = true;
    this.placed.matrix.copy(poses[frame]);
    this.placed.matrixWorldNeedsUpdate = true;
    return { counts, faces };
  }

  fill() {
    const { cell, tint, light } = this.mesh.geometry.attributes;
    const a = cell.array, b = tint.array, c = light.array, capacity = this.capacity;
    let faces = 0;
    for (let x = 0; x < nx; x++) for (let y = 0; y < ny; y++) for (let z = 0; z < nz; z++) {
      const at = (x + 1) * px + (y + 1) * py + z + 1, k = padded[at];
      if (!k) continue;
      let colour = null;
      for (let f = 0; f < 5; f++) {
        const [normal, sign, u, v] = FACES[f], front = at + sign * STEP[normal];
        if (padded[front]) continue;
        if (faces < capacity) {
          colour ??= cellColour(k, x, y, z);
          const o = 4 * faces;
          a[o] = x; a[o + 1] = y; a[o + 2] = z; a[o + 3] = f;
          b[o] = colour[0]; b[o + 1] = colour[1]; b[o + 2] = colour[2]; b[o + 3] = 255;
          for (let corner = 0; corner < 4; corner++)
            c[o + corner] = 255 * cornerLight(front, (corner & 1 ? 1 : -1) * STEP[u], (corner & 2 ? 1 : -1) * STEP[v]);
        }
        faces++;
      }
    }
    return faces;
  }
}

// Ambient occlusion by the three cells around a corner, and the sun in the cells before it.
function cornerLight(front, du, dv) {
  const p = padded[front + du] > 0, q = padded[front + dv] > 0, r = padded[front + du + dv] > 0;
  const lit = sun[front] + (p ? sun[front] : sun[front + du]) + (q ? sun[front] : sun[front + dv]) + (r ? sun[front] : sun[front + du + dv]);
  return OCCLUSION[p && q ? 3 : p + q + r] * (SHADOW + (1 - SHADOW) * lit / 4);
}

// Share of the sun that reaches each padded cell, followed upwards layer by layer.
function shine() {
  const [sx, sy] = SUN_SLOPE, fx = Math.floor(sx), fy = Math.floor(sy), wx = sx - fx, wy = sy - fy;
  sun.fill(1);
  const open = at => padded[at] ? 0 : sun[at];
  for (let z = nz - 1; z >= 0; z--) for (let x = 0; x < nx + 2; x++) for (let y = 0; y < ny + 2; y++) {
    const x0 = Math.min(Math.max(x + fx, 0), nx + 1) * px, x1 = Math.min(Math.max(x + fx + 1, 0), nx + 1) * px;
    const y0 = Math.min(Math.max(y + fy, 0), ny + 1) * py, y1 = Math.min(Math.max(y + fy + 1, 0), ny + 1) * py, up = z + 2;
    sun[x * px + y * py + z + 1] = (1 - wx) * ((1 - wy) * open(x0 + y0 + up) + wy * open(x0 + y1 + up))
      + wx * ((1 - wy) * open(x1 + y0 + up) + wy * open(x1 + y1 + up));
  }
}

function cellColour(k, x, y, z) {
  const c = drive.classes[k], lift = .22 * z / Math.max(nz - 1, 1);
  let mixed = Math.imul(x, 73856093) ^ Math.imul(y, 19349663) ^ Math.imul(z, 83492791);
  mixed = Math.imul(mixed ^ mixed >>> 13, 1540483477);
  const hash = (mixed >>> 12) % 1024 / 1023 - .5;
  const shade = 1 + (c.moves ? 0 : k === VEGETATION ? .16 : .035) * hash;
  return c.colour.map(v => Math.min(255, (v + (255 - v) * lift) * shade));
}

function voxelMaterial() {
  return new THREE.ShaderMaterial({
    side: THREE.DoubleSide,
    vertexShader: `
      attribute vec4 cell; attribute vec4 tint; attribute vec4 light;
      varying vec2 vUv; varying vec3 vTint; flat varying vec4 vLight; flat varying float vUp;
      void main() {
        vec3 at = cell.xyz; vec2 c = position.xy; int f = int(cell.w + .5);
        if (f == 0) at += vec3(c, 1.);
        else if (f == 1) at += vec3(0., c); else if (f == 3) at += vec3(1., c);
        else if (f == 2) at += vec3(c.x, 0., c.y); else at += vec3(c.x, 1., c.y);
        float side = f == 0 ? 1. : f == 1 ? ${FACES[1][4]} : f == 2 ? ${FACES[2][4]} : f == 3 ? ${FACES[3][4]} : ${FACES[4][4]};
        vUv = c; vTint = tint.rgb * side; vLight = light; vUp = f == 0 ? 1. : 0.;
        gl_Position = projectionMatrix * modelViewMatrix * vec4(at, 1.);
      }`,
    fragmentShader: `
      varying vec2 vUv; varying vec3 vTint; flat varying vec4 vLight; flat varying float vUp;
      void main() {
        float l = mix(mix(vLight.x, vLight.y, vUv.x), mix(vLight.z, vLight.w, vUv.x), vUv.y);
        vec2 e = min(vUv, 1. - vUv), w = fwidth(vUv);
        float rim = 1. - smoothstep(.05, .05 + max(max(w.x, w.y), .01), min(e.x, e.y));
        rim *= clamp(.5 / max(w.x, w.y) - 1., 0., 1.);
        gl_FragColor = vec4(vTint * l * (1. - rim * mix(.09, .035, vUp)), 1.);
      }`,
  });
}

function litBox(size, centre, colour) {
  const geometry = new THREE.BoxGeometry(...size).translate(...centre).toNonIndexed(), base = new THREE.Color(colour);
  const light = [.8, .72, .68, .84, 1, .5].flatMap(l => Array(6).fill(l));
  geometry.setAttribute('color', new THREE.Float32BufferAttribute(light.flatMap(l => [base.r * l, base.g * l, base.b * l]), 3));
  return new THREE.Mesh(geometry, new THREE.MeshBasicMaterial({ vertexColors: true }));
}

function plate() {
  const size = drive.grid.shape.map((n, i) => n * drive.grid.voxel_size_m[i]), lower = drive.grid.lower_m;
  return litBox([size[0], size[1], .3], [lower[0] + size[0] / 2, lower[1] + size[1] / 2, lower[2] - .16], 0xe8e7e3);
}

function ego() {
  const group = new THREE.Group(), ground = -drive.ego_height_m;
  group.add(litBox([4.6, 1.9, .75], [.4, 0, ground + .6], 0xf7931e), litBox([2.3, 1.7, .55], [.1, 0, ground + 1.25], 0x4a3a28));
  return group;
}

const poses = drive.poses_world_from_ego.map(m => new THREE.Matrix4().set(...m));
const origin = new THREE.Vector3().setFromMatrixPosition(poses[0]);
for (const pose of poses) for (const [i, v] of [[12, origin.x], [13, origin.y], [14, origin.z]]) pose.elements[i] -= v;

function ribbon(frame) {
  const points = [], z = drive.grid.lower_m[2] + drive.grid.voxel_size_m[2] + .04, half = .3, at = new THREE.Vector3();
  const end = Math.min(frame + drive.frames_per_chunk, poses.length - 1);
  for (let i = frame; i < end; i++) {
    const corner = (pose, side) => at.set(0, side, z).applyMatrix4(pose).toArray();
    const a = corner(poses[i], -half), b = corner(poses[i], half), c = corner(poses[i + 1], half), d = corner(poses[i + 1], -half);
    points.push(...a, ...b, ...c, ...a, ...c, ...d);
  }
  return points;
}

function nameTag(text) {
  const canvas = document.createElement('canvas'), pen = canvas.getContext('2d');
  canvas.width = 128; canvas.height = 48;
  pen.fillStyle = 'rgba(20,26,34,.82)'; pen.beginPath(); pen.roundRect(8, 4, 112, 40, 14); pen.fill();
  pen.fillStyle = '#fff'; pen.font = '600 26px system-ui, sans-serif'; pen.textAlign = 'center'; pen.fillText(text, 64, 33);
  const sprite = new THREE.Sprite(new THREE.SpriteMaterial({ map: new THREE.CanvasTexture(canvas), depthTest: false }));
  sprite.scale.set(2.2, .83, 1);
  return sprite;
}

const edges = new THREE.EdgesGeometry(new THREE.BoxGeometry(1, 1, 1));
const boxMaterial = new THREE.LineBasicMaterial({ color: 0x141a22 });
const trackObjects = drive.tracks.map(track => {
  const group = new THREE.Group(), box = new THREE.LineSegments(edges, boxMaterial), tag = nameTag(`${track.id}`);
  box.scale.set(...track.size_m);
  tag.position.set(0, 0, track.size_m[2] / 2 + .8);
  group.add(box, tag);
  group.matrixAutoUpdate = false;
  const at = new Map(track.frames.map((frame, i) => {
    const pose = new THREE.Matrix4().set(...track.poses_world_from_actor[i]);
    for (const [e, v] of [[12, origin.x], [13, origin.y], [14, origin.z]]) pose.elements[e] -= v;
    return [frame, pose];
  }));
  return { group, at };
});

let renderer;
try {
  renderer = new THREE.WebGLRenderer({ canvas: element('view'), antialias: true, alpha: true, preserveDrawingBuffer: true });
} catch (error) {
  element('failure').hidden = false;
  element('failure').textContent = 'This page needs WebGL, which this browser does not offer.';
  document.documentElement.dataset.state = 'failed';
  throw error;
}
renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
renderer.outputColorSpace = THREE.LinearSRGBColorSpace;
THREE.ColorManagement.enabled = false;
renderer.autoClear = false;

const camera = new THREE.PerspectiveCamera(32, 1, .5, 600);
camera.up.set(0, 0, 1);
const controls = new OrbitControls(camera, renderer.domElement);
controls.enableDamping = false;
controls.maxPolarAngle = 1.5;
controls.minDistance = 6;
controls.maxDistance = 260;

const visible = new Uint8Array(256).fill(1);
const state = { frame: 0, playing: false, speed: 1, since: 0 };
const views = [];

function home() {
  const pose = poses[state.frame], two = views.length > 1 && element('recorded').checked;
  const aspect = innerWidth / (two ? 2 : 1) / innerHeight, far = 1.15 * Math.max(1, 1.45 / aspect);
  controls.target.set(2, 0, -2).applyMatrix4(pose);
  camera.position.set(-44 * far, -29 * far, 50 * far).applyMatrix4(pose);
  controls.update();
}

function show(frame) {
  const before = poses[state.frame], after = poses[frame];
  if (element('follow').checked && before !== after) {
    const move = after.clone().multiply(before.clone().invert());
    camera.position.applyMatrix4(move);
    controls.target.applyMatrix4(move);
    camera.lookAt(controls.target);
  }
  state.frame = frame;
  const built = views.map(view => view.show(frame, visible));
  const points = ribbon(frame);
  for (const view of views) {
    view.way.geometry.dispose();
    view.way.geometry = new THREE.BufferGeometry().setAttribute('position', new THREE.Float32BufferAttribute(points, 3));
    view.way.visible = element('way').checked && points.length > 0;
  }
  for (const { group, at } of trackObjects) {
    group.visible = element('boxes').checked && at.has(frame);
    if (group.visible) { group.matrix.copy(at.get(frame)); group.matrixWorldNeedsUpdate = true; }
  }
  const occupied = cells - built[0].counts[0];
  document.querySelectorAll('#classes span').forEach(span => {
    const share = 100 * built[0].counts[span.dataset.label] / Math.max(occupied, 1);
    span.textContent = share ? `${share.toFixed(share < 10 ? 1 : 0)} %` : '';
  });
  element('scrub').value = frame;
  const seconds = (drive.times_us[frame] - drive.times_us[0]) * 1e-6;
  element('clock').textContent = `${seconds.toFixed(1)} s · frame ${frame + 1}/${poses.length} · ${drive.captions[frame]}`;
  Object.assign(document.documentElement.dataset, { frame, faces: built.map(b => b.faces).join(' ') });
  draw();
}

function draw() {
  const shown = element('recorded').checked ? views : views.slice(0, 1), width = innerWidth / shown.length;
  renderer.setSize(innerWidth, innerHeight, false);
  renderer.setScissorTest(false);
  renderer.clear();
  renderer.setScissorTest(true);
  camera.aspect = width / innerHeight;
  camera.updateProjectionMatrix();
  shown.forEach((view, i) => {
    renderer.setViewport(i * width, 0, width, innerHeight);
    renderer.setScissor(i * width, 0, width, innerHeight);
    renderer.render(view.scene, camera);
  });
  [['left-name', 0], ['right-name', 1]].forEach(([id, i]) => {
    element(id).hidden = views.length < 2 || i >= shown.length;
    element(id).textContent = views[i]?.name ?? '';
    element(id).style.left = `${(i + .5) * width}px`;
  });
}

function play(on) {
  state.playing = on;
  state.since = performance.now();
  element('play').textContent = on ? '❚❚' : '▶';
}

function tick(now) {
  const step = 1000 / drive.rate_hz / state.speed;
  if (state.playing && now - state.since >= step) {
    const steps = Math.min(Math.floor((now - state.since) / step), poses.length);
    state.since += steps * step;
    show((state.frame + steps) % poses.length);
  }
  requestAnimationFrame(tick);
}

function furnish() {
  document.title = drive.title;
  element('title').textContent = drive.title;
  for (const [term, fact] of drive.facts) {
    element('facts').append(Object.assign(document.createElement('dt'), { textContent: term }),
      Object.assign(document.createElement('dd'), { textContent: fact }));
  }
  element('attribution').textContent = drive.attribution;
  drive.classes.forEach((c, k) => {
    if (k === 0 || !drive.labels_present.includes(k)) return;
    const row = document.createElement('li'), label = document.createElement('label'), box = document.createElement('input');
    const swatch = document.createElement('i'), share = document.createElement('span');
    Object.assign(box, { type: 'checkbox', checked: true });
    box.addEventListener('change', () => { visible[k] = box.checked; show(state.frame); });
    swatch.style.background = `rgb(${c.colour})`;
    share.dataset.label = k;
    label.append(box, swatch, c.name.replaceAll('_', ' '), share);
    row.append(label);
    element('classes').append(row);
  });
  element('scrub').max = poses.length - 1;
  for (let frame = drive.frames_per_chunk; frame < poses.length; frame += drive.frames_per_chunk) {
    const mark = document.createElement('span');
    // A range's thumb is about 16 px wide, so its track is shorter than its box.
    mark.style.left = `calc(8px + (100% - 16px) * ${frame / (poses.length - 1)})`;
    element('borders').append(mark);
  }
  element('recorded-row').hidden = views.length < 2;
  element('seen-row').hidden = !views.some(view => view.observed);
  element('boxes-row').hidden = !drive.tracks.length;
  element('play').addEventListener('click', () => play(!state.playing));
  element('scrub').addEventListener('input', event => { play(false); show(+event.target.value); });
  element('speed').addEventListener('change', event => { state.speed = +event.target.value; });
  element('home').addEventListener('click', () => { home(); draw(); });
  for (const id of ['follow', 'way', 'boxes', 'seen']) element(id).addEventListener('change', () => show(state.frame));
  element('recorded').addEventListener('change', () => { home(); draw(); });
  controls.addEventListener('change', draw);
  addEventListener('resize', draw);
  addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const turn = by => { play(false); show((state.frame + by + poses.length) % poses.length); };
    const boxes = { f: 'follow', r: 'recorded', w: 'way', b: 'boxes', v: 'seen' }, key = event.key.toLowerCase();
    if (key === ' ') play(!state.playing);
    else if (key === 'arrowright') turn(1);
    else if (key === 'arrowleft') turn(-1);
    else if (key === 'home') turn(-state.frame);
    else if (key === 'h') { home(); draw(); }
    else if (boxes[key]) element(boxes[key]).click();
    else return;
    event.preventDefault();
  });
}

for (const sequence of drive.sequences) {
  views.push(new VoxelView(sequence.name, await unpacked(sequence.labels), sequence.observed && await unpacked(sequence.observed)));
}
views[0].boxes.add(...trackObjects.map(t => t.group));
furnish();
const asked = new URLSearchParams(location.hash.slice(1));
state.frame = Math.min(Math.max(+(asked.get('frame') ?? 0), 0), poses.length - 1);
home();
show(state.frame);
play(asked.get('play') !== '0');
document.documentElement.dataset.state = 'ready';
requestAnimationFrame(tick);
