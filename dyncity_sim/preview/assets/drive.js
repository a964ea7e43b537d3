// What the page holds of a drive: its description, its arrays, and its places.
import * as THREE from 'three';

export const drive = JSON.parse(document.getElementById('drive').textContent);
export const frames = drive.times_us.length, cells = drive.grid.shape.reduce((a, b) => a * b);
export const names = drive.sequences.map(sequence => sequence.name);

export async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Near the first pose, float32 is fine enough for any world.
export const origin = new THREE.Vector3().setFromMatrixPosition(new THREE.Matrix4().set(...drive.poses_world_from_ego[0]));

export function moved(rows) {
  const pose = new THREE.Matrix4().set(...rows);
  return pose.setPosition(new THREE.Vector3().setFromMatrixPosition(pose).sub(origin));
}

export const poses = drive.poses_world_from_ego.map(moved);
export const path = poses.map(pose => new THREE.Vector3(0, 0, -drive.ego_height_m).applyMatrix4(pose));
export const lanes = drive.lanes.map(line => line.map(point => new THREE.Vector3(...point).sub(origin)));
