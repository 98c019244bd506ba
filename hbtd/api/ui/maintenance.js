// When the map has to be drawn anew because others are silent in maintenance, of which no event tells.

/** Milliseconds between two pictures that are taken for that. */
const LEAST_PAUSE = 10_000;

export class Maintenance {
  constructor() {
    this.silent = 0;
    this.from = -Infinity;
  }

  /** Return whether a new picture is due, by what /summary says, at a time in milliseconds. */
  isDue(said, time) {
    const silent = said?.Silent ?? 0;
    if (silent === this.silent || time < this.from) return false;
    this.silent = silent;
    this.from = time + LEAST_PAUSE;
    return true;
  }
}
