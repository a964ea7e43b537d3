// One pane: the voxels of one sequence, the ego, and ribbons on the ground.
import * as THREE from 'three';
import { cells, drive, origin, poses } from 'drive';
import { egoCar, plate, Ribbons } from 'things';
import { VoxelMesh, voxelMaterial } from 'voxels';

export class View {
  constructor(labels, observed) {
    Object.assign(this, { labels, observed, scene: new THREE.Scene(), placed: new THREE.Group(), car: egoCar(drive.ego_height_m) });
    this.placed.matrixAutoUpdate = false;
    this.voxels = new VoxelMesh(drive.grid, voxelMaterial(drive.classes, drive.grid.shape[2]));
    this.placed.add(this.voxels);
    if (drive.fixed) this.placed.matrix.setPosition(origin.clone().negate());
    else this.placed.add(plate(drive.grid));
    this.ground = new Ribbons();
    this.scene.add(this.placed, this.car, this.ground);
  }

  // Shows a frame. Visible has a number for each class, choice one that changes with it; on: which switches are. Returns
  // what VoxelMesh.build does.
  show(frame, visible, choice, on) {
    const from = drive.fixed ? 0 : frame, wanted = `${from} ${choice}`;
    if (this.shown !== wanted) {
      this.shown = wanted;
      this.built = this.voxels.build(this.labels, from * cells, visible, on.seen && this.observed);
    }
    this.voxels.visible = on.voxels;
    for (const object of drive.fixed ? [this.car] : [this.car, this.placed]) {
      object.matrix.copy(poses[frame]);
      object.matrixWorldNeedsUpdate = true;
    }
    return this.built;
  }
}
