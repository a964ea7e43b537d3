// How finely to draw what moves: so that it keeps up. What rests is drawn in full.

// Pixels to each side of those of a full picture, and points of its points.
const STEPS = [[1, 1], [.75, 1], [.5, 1], [.375, .5], [.25, .25], [.25, .125]];
const PATIENCE = 30, LONGEST_PATIENCE = 2000;

export class Pace {
  constructor() {
    Object.assign(this, { step: 0, behind: 0, calm: 0, patience: PATIENCE });
  }

  get detail() { return STEPS[this.step][0]; }
  get points() { return STEPS[this.step][1]; }

  // A frame of a motion comes after some that were left out. Two of those within some twenty frames make the picture
  // coarser, a while without makes it finer; where that was too fine, the next while is twice as long.
  moved(leftOut) {
    this.calm++;
    this.behind = leftOut ? this.behind + leftOut : Math.max(this.behind - .1, 0);
    if (this.behind >= 2) {
      if (this.calm < this.patience && this.finer) this.patience = Math.min(2 * this.patience, LONGEST_PATIENCE);
      this.to(Math.min(this.step + 1, STEPS.length - 1), false);
    } else if (this.calm >= this.patience && !this.behind && this.step > 0) this.to(this.step - 1, true);
  }

  to(step, finer) {
    Object.assign(this, { step, finer, behind: 0, calm: 0 });
  }
}

// Pixels to a CSS pixel in a full picture: twice the screen's each way, which smooths edges and all that is within
// faces, as far as a graphics card's memory and the eye go.
export function fullRatio(width, height, screen) {
  return Math.max(Math.min(2 * screen, 3, Math.sqrt(16e6 / (width * height))), 1);
}
