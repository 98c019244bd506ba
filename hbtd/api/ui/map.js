// The map: draws the machine on a canvas.

import { drawFrames } from "./frames.js";
import { drawLabels } from "./labels.js";
import { ABSENT, DEAD, HEALTHY, WARNED } from "./machine.js";
import { listenToPointers } from "./pointing.js";

/** From which size in pixels on a square has a gap around it, a glyph in it. */
const GAP_FROM = 3, GLYPH_FROM = 8;
/** The largest square, and the least side of a map, which is more than its margins, in pixels. */
const MOST_ZOOM = 60, LEAST_SIDE = 100;
/** The least size in pixels of what is silent, by state: one among 100,000 can be seen. */
const LEAST = [0, 4, 5, 0];
/** The most changes that are drawn one by one. */
const MOST_ALONE = 5000, MOST_MARKS_ALONE = 300;

export class Map2D {
  /** Draw on a canvas; `onSelect(i)` is called when a component is clicked, `onHover(i, x, y)`. */
  constructor(canvas, { onSelect, onHover }) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.layout = null;
    this.states = new Uint8Array(0);
    /** Which components are silent in maintenance, as a Uint8Array of 1 and 0. */
    this.spared = this.states;
    /** Which components are shown, as a Uint8Array of 1 and 0; null for all. The rest is dimmed. */
    this.shown = null;
    /** The names of the parts that have a frame. */
    this.framed = new Set();
    this.selected = -1;
    this.view = { scale: 1, x: 0, y: 0 };
    this.fitted = true;
    this.dirty = new Set();
    this.whole = true;
    /** Whether there is a label where components are. */
    this.covered = false;
    this.scheduled = false;
    this.colours = {};
    listenToPointers(this, onSelect, onHover);
  }

  /** Draw another layout, with these states; keep the place that is looked at. */
  take(layout, states) {
    this.layout = layout;
    this.states = states;
    if (this.fitted) this.fit();
    this.redraw();
  }

  /** Draw one component anew with the next frame. */
  touch(i) {
    this.dirty.add(i);
    this.schedule();
  }

  /** Draw everything anew with the next frame. */
  redraw() {
    this.whole = true;
    this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  /** Take over the size of the canvas and the colours of the page. */
  resize() {
    this.ratio = window.devicePixelRatio || 1;
    this.width = Math.max(this.canvas.clientWidth, LEAST_SIDE);
    this.height = Math.max(this.canvas.clientHeight, LEAST_SIDE);
    this.canvas.width = Math.round(this.width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
    const style = getComputedStyle(this.canvas);
    for (const name of ["ground", "healthy", "spared", "warned", "dead", "on-warned", "on-dead", "label", "select"]) {
      this.colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.labelSize = parseFloat(style.getPropertyValue("--label-size"));
    if (this.layout && this.fitted) this.fit();
    this.redraw();
  }

  get aspect() {
    return (this.width - 2 * this.margin) / (this.height - 2 * this.margin);
  }

  /** The room around everything, in which the names of chassis stand. */
  get margin() {
    return Math.max(20, 1.5 * this.labelSize);
  }

  /** Show everything. */
  fit() {
    this.fitted = true;
    if (this.layout) this.show(this.everything);
  }

  get everything() {
    return { x: 0, y: 0, width: this.layout.width, height: this.layout.height };
  }

  /** Show a part of the machine as large as possible. */
  zoomTo(part) {
    this.fitted = false;
    this.show(part);
  }

  /** Return the part of the map in which some components are; without any, everything. */
  around(positions) {
    if (!positions.length) return this.everything;
    const [left, right] = extent(positions, this.layout.x), [top, bottom] = extent(positions, this.layout.y);
    return { x: left, y: top, width: right + 1 - left, height: bottom + 1 - top };
  }

  show(part) {
    // A part is shown no smaller than it is where everything is.
    const scale = Math.min(Math.max(...[part, this.everything].map((each) => this.scaleOf(each))), MOST_ZOOM);
    this.view = {
      scale,
      x: (this.width - part.width * scale) / 2 - part.x * scale,
      y: (this.height - part.height * scale) / 2 - part.y * scale,
    };
    this.redraw();
  }

  scaleOf({ width, height }) {
    return Math.min((this.width - 2 * this.margin) / width, (this.height - 2 * this.margin) / height);
  }

  /** Zoom by a factor around a point of the canvas, by default its middle. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const least = this.layout ? Math.min(this.width / this.layout.width, this.height / this.layout.height) / 2 : 0.1;
    const scale = Math.min(Math.max(this.view.scale * factor, least), MOST_ZOOM);
    const grown = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * grown, y: y - (y - this.view.y) * grown };
    this.fitted = false;
    this.redraw();
  }

  move(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.fitted = false;
    this.redraw();
  }

  /** Select a component, and move the map if it is not in sight. */
  select(i) {
    if (this.selected !== i) this.redraw();
    this.selected = i;
    if (i >= 0) {
      const { scale, x, y } = this.view;
      const left = this.layout.x[i] * scale + x, top = this.layout.y[i] * scale + y;
      if (left < 0 || top < 0 || left + scale > this.width || top + scale > this.height) {
        this.move(this.width / 2 - left, this.height / 2 - top);
      }
    }
  }

  /** Return the component at a point of the canvas, -1 if there is none. */
  at(pointX, pointY) {
    if (!this.layout) return -1;
    const x = (pointX - this.view.x) / this.view.scale, y = (pointY - this.view.y) / this.view.scale;
    const found = this.layout.cabinets.find((each) => inside(each, x, y));
    if (!found) return -1;
    let best = -1, worst = -1;
    for (let i = found.start; i < found.end; i++) {
      const more = this.isDim(i) ? 0 : this.excessOf(this.states[i]), left = this.layout.x[i] - more, top = this.layout.y[i] - more;
      if (x < left || y < top || x >= left + 1 + 2 * more || y >= top + 1 + 2 * more) continue;
      const state = this.states[i];
      if (state === ABSENT || state <= worst) continue;
      best = i;
      worst = state;
    }
    return best;
  }

  /** Return the shown component next to another one in a direction, or the other one itself. */
  next(i, dx, dy) {
    const { x, y } = this.layout;
    let best = i, nearest = Infinity;
    for (let k = 0; k < x.length; k++) {
      const along = (x[k] - x[i]) * dx + (y[k] - y[i]) * dy;
      if (along < 0.5 || this.isDim(k)) continue;
      const across = Math.abs((x[k] - x[i]) * dy) + Math.abs((y[k] - y[i]) * dx);
      const distance = along + 3 * across;
      if (distance < nearest) {
        nearest = distance;
        best = k;
      }
    }
    return best;
  }

  draw() {
    if (!this.layout) return;
    // Another screen, perhaps.
    if (window.devicePixelRatio !== this.ratio) this.resize();
    const { context, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const marks = this.view.scale < LEAST[DEAD];
    if (this.whole || this.dirty.size > (marks ? MOST_MARKS_ALONE : MOST_ALONE)) this.drawAll();
    else {
      for (const i of this.dirty) marks ? this.drawAround(i) : this.drawOne(i);
      drawFrames(this);
      if (this.covered) drawLabels(this);
      if (this.selected >= 0 && (marks || this.dirty.has(this.selected))) this.drawSelection();
    }
    this.whole = false;
    this.dirty.clear();
    this.onDrawn();
  }

  drawAll() {
    const { context, layout, view } = this;
    context.fillStyle = this.colours.ground;
    context.fillRect(0, 0, this.width, this.height);
    const gap = this.gap(), glyphs = view.scale >= GLYPH_FROM;
    const groups = [[], [], [], [], [], [], [], []];
    for (const cabinet of layout.cabinets) {
      if (!this.inSight(cabinet)) continue;
      for (let i = cabinet.start; i < cabinet.end; i++) {
        groups[this.states[i] + (this.shown && !this.shown[i] ? 4 : 0)].push(i);
      }
    }
    // What is dimmed first: what is silent and small reaches over what is beside it.
    [4, 5, 6, HEALTHY, WARNED, DEAD].forEach((k) => {
      const group = groups[k];
      if (!group.length) return;
      context.globalAlpha = k > 3 ? 0.16 : 1;
      const more = this.excessOf(k), spared = k % 4 === HEALTHY ? group.filter((i) => this.spared[i]) : [];
      context.fillStyle = this.colour(k % 4);
      for (const i of group) this.fillOne(i, more, gap);
      context.fillStyle = this.colours.spared;
      for (const i of spared) this.fillOne(i, more, gap);
      if (glyphs) for (const i of k % 4 === HEALTHY ? spared : group) this.drawGlyph(i, k % 4);
    });
    context.globalAlpha = 1;
    drawFrames(this);
    this.covered = drawLabels(this);
    if (this.selected >= 0) this.drawSelection();
  }

  drawOne(i) {
    const { context, view, layout } = this;
    const left = layout.x[i] * view.scale + view.x, top = layout.y[i] * view.scale + view.y, gap = this.gap();
    if (left + view.scale < 0 || top + view.scale < 0 || left > this.width || top > this.height) return;
    context.fillStyle = this.colours.ground;
    this.fill(left, top, view.scale, gap);
    const state = this.states[i];
    if (state === ABSENT) return;
    context.globalAlpha = this.shown && !this.shown[i] ? 0.16 : 1;
    context.fillStyle = this.isSpared(i) ? this.colours.spared : this.colour(state);
    this.fill(left, top, view.scale, gap);
    if (view.scale >= GLYPH_FROM && (state !== HEALTHY || this.isSpared(i))) this.drawGlyph(i, state);
    context.globalAlpha = 1;
  }

  /** Draw anew where one component is, and what reaches into that place: squares of few pixels. */
  drawAround(i) {
    const { context, view, layout } = this, most = LEAST[DEAD], gap = this.gap();
    const cabinet = layout.cabinets.find(({ start, end }) => i >= start && i < end);
    const middle = (k) => [(layout.x[k] + 0.5) * view.scale + view.x, (layout.y[k] + 0.5) * view.scale + view.y];
    const [x, y] = middle(i), near = [[], [], []];
    if (!cabinet || x < -most || y < -most || x > this.width + most || y > this.height + most) return;
    for (let k = cabinet.start; k < cabinet.end; k++) {
      const [left, top] = middle(k);
      if (this.states[k] !== ABSENT && Math.abs(left - x) <= 2 * most && Math.abs(top - y) <= 2 * most) near[this.states[k]].push(k);
    }
    context.save();
    context.beginPath();
    context.rect(this.snap(x - most), this.snap(y - most), 2 * most, 2 * most);
    context.clip();
    context.fillStyle = this.colours.ground;
    context.fillRect(x - 2 * most, y - 2 * most, 4 * most, 4 * most);
    for (const dim of [true, false]) {
      near.forEach((group, state) => {
        context.globalAlpha = dim ? 0.16 : 1;
        for (const k of group) {
          context.fillStyle = this.isSpared(k) ? this.colours.spared : this.colour(state);
          if (!this.isDim(k) !== dim) this.fillOne(k, dim ? 0 : this.excessOf(state), gap);
        }
      });
    }
    context.restore();
  }

  /** Return whether a component is silent in maintenance, and neither warned about nor dead. */
  isSpared(i) {
    return this.states[i] === HEALTHY && Boolean(this.spared[i]);
  }

  isDim(i) {
    return this.shown && !this.shown[i];
  }

  /** Return by how much squares of a state are larger on each side than their places, if they are not dim. */
  excessOf(state) {
    return Math.max(0, (LEAST[state] ?? 0) / this.view.scale - 1) / 2;
  }

  /** Draw a cross on what is dead, an exclamation mark on what is warned about, a pause on what is in maintenance. */
  drawGlyph(i, state) {
    const { context, view, layout } = this;
    const size = this.size();
    const left = this.snap(layout.x[i] * view.scale + view.x), top = this.snap(layout.y[i] * view.scale + view.y);
    const near = size * 0.25, far = size * 0.75, middle = size / 2;
    context.strokeStyle = this.colours[state === DEAD ? "on-dead" : "on-warned"];
    context.lineWidth = Math.max(1.2, size / 9);
    context.beginPath();
    if (state === DEAD) {
      context.moveTo(left + near, top + near);
      context.lineTo(left + far, top + far);
      context.moveTo(left + far, top + near);
      context.lineTo(left + near, top + far);
    } else if (state === WARNED) {
      context.moveTo(left + middle, top + size * 0.18);
      context.lineTo(left + middle, top + size * 0.6);
      context.moveTo(left + middle, top + size * 0.7);
      context.lineTo(left + middle, top + size * 0.84);
    } else {
      for (const side of [0.38, 0.62]) {
        context.moveTo(left + size * side, top + near);
        context.lineTo(left + size * side, top + far);
      }
    }
    context.stroke();
  }

  drawSelection() {
    const { context, layout, view, selected } = this;
    const size = this.size(), pad = Math.min(Math.max(1.5, size / 10), 3);
    context.strokeStyle = this.colours.select;
    context.lineWidth = Math.min(Math.max(2, size / 8), 4);
    context.strokeRect(
      this.snap(layout.x[selected] * view.scale + view.x) - pad, this.snap(layout.y[selected] * view.scale + view.y) - pad,
      size + 2 * pad, size + 2 * pad,
    );
  }

  colour(state) {
    return state === DEAD ? this.colours.dead : state === WARNED ? this.colours.warned : this.colours.healthy;
  }

  /** Fill the square of a component, `more` larger on each side. */
  fillOne(i, more, gap) {
    const { scale, x, y } = this.view, { layout } = this;
    this.fill((layout.x[i] - more) * scale + x, (layout.y[i] - more) * scale + y, (1 + 2 * more) * scale, more ? 0 : gap);
  }

  /** Fill a square on whole pixels: all gaps are alike, rather than all squares. */
  fill(left, top, side, gap) {
    const x = this.snap(left), y = this.snap(top), least = 1 / this.ratio;
    this.context.fillRect(
      x, y, Math.max(this.snap(left + side) - x - gap, least), Math.max(this.snap(top + side) - y - gap, least),
    );
  }

  /** Return the gap between two squares, in pixels of the page. */
  gap() {
    const { scale } = this.view;
    return scale < GAP_FROM ? 0 : Math.max(1, Math.round(scale * 0.1 * this.ratio)) / this.ratio;
  }

  /** Return the side of a square, in pixels of the page. */
  size() {
    return this.snap(this.view.scale) - this.gap();
  }

  snap(position) {
    return Math.round(position * this.ratio) / this.ratio;
  }

  inSight(part) {
    const { scale, x, y } = this.view;
    const left = part.x * scale + x, top = part.y * scale + y;
    return left < this.width && top < this.height && left + part.width * scale > 0 && top + part.height * scale > 0;
  }
}

function inside(part, x, y) {
  return x >= part.x && y >= part.y && x < part.x + part.width && y < part.y + part.height;
}

/** Return the least and the largest coordinate of some components. */
function extent(positions, coordinates) {
  return positions.reduce(([least, most], i) => [Math.min(least, coordinates[i]), Math.max(most, coordinates[i])], [Infinity, -Infinity]);
}
