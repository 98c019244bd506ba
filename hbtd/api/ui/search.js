// The search: which components a text names.

import { get } from "./feed.js";
import { matcher, visible } from "./xnames.js";

/** Milliseconds of rest after which hbtd is asked what a text means. */
const REST = 250;
/** The most pages of components that are read. */
const MOST_PAGES = 20;

export class Search {
  /** `onNames(test)` is called with what says whether a name is found, null for all. */
  constructor(input, output, ask, onNames) {
    this.input = input;
    this.output = output;
    this.ask = ask;
    this.onNames = onNames;
    this.queries = 0;
    this.test = null;
    this.failure = "";
    input.addEventListener("input", () => this.run(REST));
  }

  /** Find what is written, after a while if hbtd has to be asked. */
  async run(rest = 0) {
    const text = this.input.value.trim(), query = ++this.queries;
    // An xname is in small letters.
    let test = text ? matcher(text.toLowerCase()) : null, failure = "";
    if (text && !test) {
      this.output.textContent = "…";
      await new Promise((resolve) => setTimeout(resolve, rest));
      if (query !== this.queries) return;
      try {
        const found = await this.read(text, () => query !== this.queries);
        test = (name) => found.has(name);
      } catch (error) {
        failure = error.message;
        test = () => false;
      }
      if (query !== this.queries) return;
    }
    Object.assign(this, { test, failure });
    this.count();
  }

  /** Say how many are found, of those that there are now. */
  count() {
    const { test, failure } = this, count = this.onNames(test);
    const found = count ? `${count.toLocaleString("en")} found` : "no such name";
    this.output.textContent = visible(failure || (test ? found : ""));
  }

  async read(text, givenUp) {
    const found = new Set();
    let after = "";
    for (let page = 0; page < MOST_PAGES && !givenUp(); page++) {
      const answer = await get(`components?names=${encodeURIComponent(text)}${after}`, this.ask);
      for (const each of answer.Components) found.add(each.XName);
      if (!answer.Next) break;
      after = `&after=${encodeURIComponent(answer.Next)}`;
    }
    return found;
  }
}
