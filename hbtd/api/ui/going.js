// The box in which a time is typed, and how far back the strip goes for it.

import { local, now, readTime } from "./clock.js";
import { find, stored } from "./support.js";

/** Milliseconds by which a time that is typed may be ahead. */
const TOLERATED = 60_000;
const EXAMPLES = "18:43, 18:43:10, -2m?";

export class Going {
  /** Go to times on a strip; `onSpan()` is called, and awaited, when it goes further back. */
  constructor(strip, onSpan) {
    Object.assign(this, { strip, onSpan });
    this.box = find("when");
    this.menu = find("span");
    /** The span, in seconds, that was chosen before one was needed for a time. */
    this.chosen = null;
    const span = stored((storage) => storage.getItem("hbtd-span"));
    if (this.spans.includes(Number(span))) this.menu.value = span;
    strip.span = Number(this.menu.value) * 1000;
    this.menu.addEventListener("change", () => this.choose(Number(this.menu.value)));
    find("go").addEventListener("submit", (event) => {
      event.preventDefault();
      this.go(this.box.value);
    });
  }

  get spans() {
    return [...this.menu.options].map((each) => Number(each.value));
  }

  /** Have the box show the moment that is shown: null for now. */
  show(time) {
    this.box.value = time === null ? "" : local(time);
    this.complain("");
    if (time === null && this.chosen !== null) {
      this.setSpan(this.chosen);
      this.chosen = null;
    }
  }

  /** Look at the moment that is typed, for which the strip may have to go further back. */
  async go(text) {
    const { strip } = this, time = readTime(text, now());
    if (time === undefined) {
      this.complain(`not a time: ${text.trim().slice(0, 20)} (${EXAMPLES})`);
      return;
    }
    if (time > now() + TOLERATED) {
      this.complain("that is yet to come");
      return;
    }
    if (time !== null && time < now() - strip.span) {
      this.chosen ??= strip.span / 1000;
      await this.setSpan(this.spans.find((seconds) => time >= now() - seconds * 1000) ?? this.spans.at(-1));
    }
    strip.go(time);
    // Times on the page are whole seconds.
    if (time !== null && strip.time - time >= 1000) this.complain(`not known before ${local(strip.time)}`);
    else strip.canvas.focus();
  }

  complain(text) {
    find("misread").textContent = text;
  }

  /** Have the strip go so many seconds back, until another choice is made. */
  choose(seconds) {
    this.chosen = null;
    stored((storage) => storage.setItem("hbtd-span", String(seconds)));
    return this.setSpan(seconds);
  }

  async setSpan(seconds) {
    this.menu.value = String(seconds);
    this.strip.span = seconds * 1000;
    this.strip.draw();
    await this.onSpan();
  }
}
