// The strip at the bottom: what happened in the last hours, and the way back to a moment.

import { dateAndTime, now as present, ticks, timeOfDay } from "./clock.js";
import { DEAD, WARNED } from "./machine.js";

/** In steps: a part of the span each, a second at least. With Shift, arrows go as far as pages. */
const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 };
/** The width in pixels of what one bar stands for. */
const BAR = 4;
const STEPS = 300, COARSE = 10, LEAST_STEP = 1000;

export class Strip {
  /** Draw the changes of a machine on a canvas; `onTime(time)` is called with null for now. */
  constructor(canvas, machine, onTime) {
    this.canvas = canvas;
    this.machine = machine;
    this.onTime = onTime;
    this.span = 3600_000;
    this.time = null;
    const at = (event) => this.go(this.timeAt(event.offsetX));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      at(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) at(event);
      canvas.title = this.tell(event.offsetX);
    });
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's
      const arrow = KEYS[event.key], coarse = event.shiftKey && Math.abs(arrow) === 1 ? COARSE : 1;
      const step = Math.max(this.span / STEPS, LEAST_STEP);
      if (event.key === "End") this.go(null);
      else if (event.key === "Home") this.go(present() - this.span);
      else if (arrow) this.go((this.time ?? present()) + arrow * coarse * step);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** The time at its left end: that of the span, or the one that is shown if that is earlier. */
  get begin() {
    return Math.min(present() - this.span, this.time ?? Infinity);
  }

  /** Go to a time in milliseconds since 1970, or to now: null. */
  go(time) {
    this.time = time === null || time >= present() ? null : Math.max(time, this.machine.knownSince);
    this.onTime(this.time);
    this.draw();
  }

  /** Return the time at a place on the strip; null, for now, at its right end. */
  timeAt(x) {
    if (x >= this.canvas.clientWidth - 4) return null;
    const { begin } = this;
    return begin + (present() - begin) * (x / this.canvas.clientWidth);
  }

  /** Return what a place on the strip stands for: the moment, and how many changes its bar has. */
  tell(x) {
    const time = this.timeAt(x), bins = this.bins?.map((each) => each[Math.floor(x / BAR)] ?? 0) ?? [0, 0, 0];
    const counts = ["died", "warned", "heard"].flatMap((word, b) => (bins[b] ? [`${bins[b].toLocaleString("en")} ${word}`] : []));
    return [time === null ? "now" : dateAndTime(time), ...counts].join(", ");
  }

  draw() {
    const { canvas, machine, begin } = this, now = present(), span = now - begin;
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const colour = (name) => getComputedStyle(canvas).getPropertyValue(`--${name}`).trim();
    const count = Math.ceil(width / BAR);
    const bins = [new Uint32Array(count + 1), new Uint32Array(count + 1), new Uint32Array(count + 1)];
    for (let k = machine.changes.length - 1; k >= 0 && machine.changes[k].at >= begin; k--) {
      const { at, to } = machine.changes[k];
      bins[to === DEAD ? 0 : to === WARNED ? 1 : 2][Math.min(Math.floor(((at - begin) / span) * count), count)]++;
    }
    this.bins = bins;
    let most = 1;
    for (let k = 0; k <= count; k++) most = Math.max(most, bins[0][k] + bins[1][k] + bins[2][k]);
    const ground = height - 13;
    for (let k = 0; k <= count; k++) {
      let top = ground;
      ["dead", "warned", "healthy"].forEach((state, b) => {
        if (!bins[b][k]) return;
        // By the logarithm: one node and a cabinet can both be seen.
        const share = Math.log1p(bins[b][k]) / Math.log1p(most);
        const tall = Math.max(2, (share * ground) / 3);
        top -= tall;
        context.fillStyle = colour(state);
        context.fillRect(k * BAR, top, BAR - 1, tall);
      });
    }
    context.fillStyle = colour("frame");
    context.fillRect(0, ground, width, 1);
    this.drawHours(context, begin, now, width, height, colour("label"));
    const unknown = ((machine.knownSince - begin) / span) * width;
    if (unknown > 0) {
      context.fillStyle = colour("frame");
      context.globalAlpha = 0.5;
      context.fillRect(0, 0, unknown, ground);
      context.globalAlpha = 1;
    }
    const place = this.time === null ? width - 1 : ((this.time - begin) / span) * width;
    context.fillStyle = colour("select");
    context.fillRect(Math.round(place) - 1, 0, 2, height);
    canvas.setAttribute("aria-valuenow", String(Math.round((place / width) * 1000)));
    canvas.setAttribute("aria-valuetext", this.time === null ? "now" : dateAndTime(this.time));
  }

  drawHours(context, begin, now, width, height, colour) {
    const steps = [60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400].map((seconds) => seconds * 1000);
    const step = steps.find((each) => (width * each) / (now - begin) > 64) ?? steps.at(-1);
    context.fillStyle = colour;
    context.font = "10px system-ui, sans-serif";
    for (const t of ticks(begin, now, step)) {
      const x = ((t - begin) / (now - begin)) * width;
      const text = step < steps.at(-1) ? timeOfDay(t).slice(0, 5) : dateAndTime(t).slice(5, 10);
      if (x < width - 34) context.fillText(text, x + 3, height - 2);
      context.fillRect(x, height - 13, 1, 13);
    }
  }
}
