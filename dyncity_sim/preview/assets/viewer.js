// Plays a drive of labelled voxel grids, or a scene. Frames: world is x east, y north, z up; the grids of a drive lie
// in the ego frame, that of a scene in the world.
import * as THREE from 'three';
import { OrbitControls } from 'orbit-controls';
import { Points, Ribbons, Tracks } from 'things';
import { fullRatio, Pace } from 'pace';
import { element, furnish } from 'panel';
import { cells, drive, frames, lanes, moved, names, path, poses, unpacked } from 'drive';
import { View } from 'view';

const root = document.documentElement;
root.dataset.state = 'opening';
THREE.ColorManagement.enabled = false;
const asked = new URLSearchParams(location.hash.slice(1));
const SKY = new THREE.Color(0xe6ebf0), WAY = new THREE.Color(0xffb52e), LANE = new THREE.Color(0xf4f4ee), TRAIL_S = 3;
const TURN_MS = 1000 / 30, REST_MS = 200;

// What can be switched: name, key, words, on at first, whether this drive has it.
const SWITCHES = [
  ['follow', 'f', 'follow the ego', true, true],
  ['recorded', 'r', `${names[1]} beside`, true, names.length > 1],
  ['seen', 'v', 'only what it sees', false, drive.sequences.some(s => s.observed)],
  ['voxels', 'x', 'voxels', true, true],
  ['points', 'p', 'LiDAR points', true, !!drive.points],
  ['boxes', 'b', 'boxes and ids', true, drive.tracks.length > 0],
  ['trails', 't', 'trails', true, drive.tracks.length > 0],
  ['lanes', 'l', 'lanes', true, drive.lanes.length > 0],
  ['way', 'w', drive.fixed ? 'way of the ego' : 'way ahead', true, true],
].filter(([, , , , there]) => there);
const on = Object.fromEntries(SWITCHES.map(([name, , , first]) => [name, asked.has(name) ? asked.get(name) !== '0' : first]));

// The road lies inside cells, whose upper face is what is seen.
const lift = drive.surface_m + .04;

const visible = drive.classes.map(() => 1);
(asked.get('hide') ?? '').split(',').forEach(name => { const k = drive.classes.findIndex(c => c.name === name); if (k > 0) visible[k] = 0; });
let choice = 0;

let renderer;
try {
  renderer = new THREE.WebGLRenderer({ canvas: element('view'), antialias: false, powerPreference: 'high-performance' });
} catch (error) {
  fail('This page needs WebGL 2, which this browser does not offer.');
  throw error;
}
renderer.outputColorSpace = THREE.LinearSRGBColorSpace;
renderer.autoClear = false;
renderer.setClearColor(SKY);

const reach = drive.fixed ? Math.max(drive.grid.shape[0] * drive.grid.voxel_size_m[0], drive.grid.shape[1] * drive.grid.voxel_size_m[1]) : 60;
const camera = new THREE.PerspectiveCamera(32, 1, .5, Math.max(600, 5 * reach));
camera.up.set(0, 0, 1);
const controls = new OrbitControls(camera, renderer.domElement);
Object.assign(controls, { enableDamping: false, maxPolarAngle: 1.5, minDistance: 6, maxDistance: Math.max(260, 2 * reach) });

const state = { frame: 0, playing: false, speed: 1, since: 0, stale: true, touched: -Infinity, turning: false, ticked: 0 };
const pace = new Pace();
const views = [];
let tracks, shares, points = null;

// Panes of the window, as [x, y from below, width, height]: two stand clear of the menu and of the player, beside each
// other, or one above the other where there is more height.
function panes() {
  if (views.length < 2 || !on.recorded) return [[0, 0, innerWidth, innerHeight]];
  const box = name => document.querySelector(name).getBoundingClientRect();
  const phone = element('menu').offsetWidth > 0, bottom = innerHeight - box('footer').top;
  const w = phone ? innerWidth : box('aside').left, h = box('footer').top - (phone ? box('header').bottom : 0);
  return w > h ? [[0, bottom, w / 2, h], [w / 2, bottom, w / 2, h]] : [[0, bottom + h / 2, w, h / 2], [0, bottom, w, h / 2]];
}

// From how far away a pane shows as much as a wide one does: narrow ones from farther.
function distance() {
  const [[, , w, h]] = panes();
  return 1.15 * Math.max(1, 1.6 * h / w);
}

function look(x, y, z) {
  state.far = distance();
  controls.target.set(2, 0, -2).applyMatrix4(poses[state.frame]);
  camera.position.set(x, y, z).multiplyScalar(state.far).applyMatrix4(poses[state.frame]);
  controls.update();
  state.stale = true;
}

function retreat(by) {
  camera.position.sub(controls.target).multiplyScalar(by).add(controls.target);
  controls.update();
}

function swing(left, up) {
  controls._rotateLeft(left);
  controls._rotateUp(up);
  controls.update();
}

const home = () => look(-44, -29, 50), above = () => look(.5, 0, 76);

function ribbons(frame, first) {
  const end = drive.fixed ? poses.length : Math.min(frame + drive.frames_per_chunk, poses.length - 1) + 1;
  const way = path.slice(drive.fixed ? 0 : frame, end);
  const strips = on.way ? [{ points: way, half: .3, lift, colour: WAY, fade: way.map(() => .75) }] : [];
  if (first && on.trails) strips.push(...tracks.trails(frame, TRAIL_S * drive.rate_hz, lift));
  return strips;
}

function show(frame) {
  const before = poses[state.frame], after = poses[frame];
  if (on.follow && before !== after) {
    const move = after.clone().multiply(before.clone().invert());
    camera.position.applyMatrix4(move);
    controls.target.applyMatrix4(move);
    camera.lookAt(controls.target);
  }
  state.frame = frame;
  const built = views.map((view, i) => i && !on.recorded ? null : view.show(frame, visible, choice, on)).filter(Boolean);
  views.forEach((view, i) => view.ground.draw(ribbons(frame, i === 0)));
  marks.visible = on.lanes;
  tracks.place(frame, on.boxes);
  if (points) {
    points.visible = on.points;
    points.material.uniforms.pale.value = on.voxels ? .4 : 0;
    if (on.points) root.dataset.points = points.build(frame);
    points.matrix.compose(new THREE.Vector3(), new THREE.Quaternion(), points.scale).premultiply(poses[frame]);
    points.matrixWorldNeedsUpdate = true;
  }
  const occupied = Math.max(cells - built[0].counts[0], 1);
  for (const [k, span] of shares) {
    const share = 100 * built[0].counts[k] / occupied;
    span.textContent = !share ? '' : share < .05 ? '< 0.1 %' : `${share.toFixed(share < 10 ? 1 : 0)} %`;
  }
  const seconds = (drive.times_us[frame] - drive.times_us[0]) * 1e-6, caption = drive.captions[frame];
  element('clock').textContent = `${seconds.toFixed(1)} s · frame ${frame + 1}/${frames}${caption && ` · ${caption}`}`;
  element('scrub').value = frame;
  element('scrub').setAttribute('aria-valuetext', element('clock').textContent);
  Object.assign(root.dataset, { frame, faces: built.map(b => b.faces).join(' '), boxes: tracks.shown.filter(t => t.group.visible).length });
  state.stale = true;
}

// In full, or as finely as keeps up with a motion.
function draw(moving) {
  const detail = moving ? pace.detail : 1, ratio = detail * fullRatio(innerWidth, innerHeight, devicePixelRatio);
  if (renderer.getPixelRatio() !== ratio) renderer.setPixelRatio(ratio);
  root.dataset.detail = detail;
  state.stale = false;
  renderer.setScissorTest(false);
  renderer.setViewport(0, 0, innerWidth, innerHeight);
  renderer.clear();
  renderer.setScissorTest(true);
  panes().forEach(([x, y, w, h], i) => {
    camera.aspect = w / h;
    camera.updateProjectionMatrix();
    const pixel = 2 * Math.tan(camera.fov * Math.PI / 360) / h;
    tracks.scaleTags(18 * pixel);
    points?.draw(moving ? pace.points : 1, ratio / pixel, ratio / Math.min(devicePixelRatio, 2));
    renderer.setViewport(x, y, w, h);
    renderer.setScissor(x, y, w, h);
    renderer.render(views[i].scene, camera);
  });
}

function resize() {
  renderer.setSize(innerWidth, innerHeight, false);
  const shown = panes(), bottom = innerHeight - document.querySelector('footer').getBoundingClientRect().top;
  ['left-name', 'right-name'].forEach((id, i) => {
    element(id).hidden = views.length < 2 || i >= shown.length;
    if (element(id).hidden) return;
    const [x, y, w] = shown[i];
    element(id).textContent = names[i];
    Object.assign(element(id).style, { left: `${x + w / 2}px`, bottom: `${Math.max(y, bottom) + 10}px` });
  });
  retreat(distance() / state.far);
  state.far = distance();
  state.stale = true;
}

function play(go) {
  state.playing = go;
  state.since = performance.now();
  element('play').textContent = go ? '❚❚' : '▶';
  element('play').setAttribute('aria-label', go ? 'pause' : 'play');
}

function step(by) {
  play(false);
  show((state.frame + by + frames) % frames);
}

function tick(now) {
  const each = 1000 / drive.rate_hz / state.speed;
  if (state.playing && now - state.since >= each) {
    // Where drawing takes longer than a frame lasts, some are left out; where it takes much longer, time slows down.
    const due = Math.floor((now - state.since) / each), steps = Math.min(due, 3);
    state.since = steps < due ? now : state.since + steps * each;
    show((state.frame + steps) % frames);
    pace.moved(due - 1);
  }
  const turning = !state.playing && now - state.touched < REST_MS, moving = state.playing || turning;
  if (turning && state.turning) pace.moved(Math.max(Math.round((now - state.ticked) / TURN_MS) - 1, 0));
  state.turning = turning && state.stale;
  state.ticked = now;
  if (state.stale || !moving && root.dataset.detail !== '1') draw(moving);
  requestAnimationFrame(tick);
}

function choose(k, value) {
  visible[k] = +value;
  choice++;
  show(state.frame);
}

function set(name, value) {
  on[name] = value;
  element(name).checked = value;
  if (name === 'seen') choice++;
  if (name === 'recorded') resize();
  show(state.frame);
}

function listen() {
  const help = element('help');
  const ask = () => {
    if (help.open) return help.close();
    help.showModal();
    // Its button, which lies below, has got the focus.
    help.scrollTop = 0;
  };
  const menu = () => element('menu').setAttribute('aria-expanded', document.body.classList.toggle('menu'));
  const turn = by => { const speeds = element('speed'); speeds.selectedIndex = Math.min(Math.max(speeds.selectedIndex + by, 0), speeds.length - 1); state.speed = +speeds.value; };
  const keys = {
    ' ': () => play(!state.playing), arrowright: () => step(1), arrowleft: () => step(-1), home: () => step(-state.frame),
    end: () => step(frames - 1 - state.frame), '+': () => turn(1), '-': () => turn(-1), h: home, u: above, m: menu, '?': ask,
    'shift arrowleft': () => swing(.1, 0), 'shift arrowright': () => swing(-.1, 0), 'shift arrowup': () => swing(0, .1),
    'shift arrowdown': () => swing(0, -.1), pageup: () => retreat(.9), pagedown: () => retreat(1 / .9),
    ...Object.fromEntries(SWITCHES.map(([name, key]) => [key, () => set(name, !on[name])])),
    ...Object.fromEntries([...document.querySelectorAll('#classes input')].slice(0, 10).map((box, i) => [`${(i + 1) % 10}`, () => box.click()])),
  };
  element('play').addEventListener('click', () => play(!state.playing));
  element('scrub').addEventListener('input', event => { play(false); show(+event.target.value); state.touched = performance.now(); });
  element('speed').addEventListener('change', () => turn(0));
  element('home').addEventListener('click', home);
  element('above').addEventListener('click', above);
  element('menu').addEventListener('click', menu);
  element('ask').addEventListener('click', ask);
  // Beside the words of the help, which can be marked and copied, or on its button.
  help.addEventListener('click', event => { if ([help, element('close')].includes(event.target)) help.close(); });
  controls.addEventListener('change', () => { state.stale = true; state.touched = performance.now(); });
  addEventListener('resize', resize);
  addEventListener('hashchange', () => location.reload());
  // Phones take the graphics card away from a page in the background, and with it what three.js had set.
  renderer.domElement.addEventListener('webglcontextrestored', () => { renderer.setClearColor(SKY); state.stale = true; });
  addEventListener('keydown', event => {
    const word = event.key.toLowerCase(), key = event.shiftKey && word.startsWith('arrow') ? `shift ${word}` : word;
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[key] || (help.open && key !== '?')) return;
    // Space presses the button and ticks the box that has the focus; a choice of speed takes the arrows.
    if (key === ' ' && event.target.matches('button, input[type=checkbox], select') || event.target.matches('select') && key.includes('arrow')) return;
    keys[key]();
    if (event.repeat) state.touched = performance.now();
    event.preventDefault();
  });
}

const opened = await Promise.all(drive.sequences.map(s => Promise.all([unpacked(s.labels), s.observed && unpacked(s.observed)])));
opened.forEach(([labels, observed]) => views.push(new View(labels, observed)));
tracks = new Tracks(drive.tracks, moved, drive.fixed ? .6 : .15);
// Below trails and ways.
const marks = new Ribbons();
marks.renderOrder = -1;
marks.draw(lanes.map(points => ({ points, half: .08, lift, colour: LANE, fade: points.map(() => .95) })));
views[0].scene.add(tracks, marks);
if (drive.points) {
  points = new Points(drive.points, await unpacked(drive.points.packed), drive.classes, visible);
  points.matrixAutoUpdate = false;
  views[0].scene.add(points);
}
shares = furnish(SWITCHES, on, visible, choose, set);
listen();
state.frame = Math.min(Math.max(Math.round(+asked.get('frame')) || 0, 0), frames - 1);
if (asked.has('speed')) element('speed').value = asked.get('speed');
if (element('speed').selectedIndex < 0) element('speed').value = 1;
state.speed = +element('speed').value;
show(state.frame);
(asked.get('camera') === 'above' ? above : home)();
resize();
draw(false);
play(asked.has('play') ? asked.get('play') !== '0' : !matchMedia('(prefers-reduced-motion: reduce)').matches);
root.dataset.state = 'ready';
requestAnimationFrame(tick);
