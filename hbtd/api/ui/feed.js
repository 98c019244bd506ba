// What hbtd says: one request for the picture, then its events; again and again when that breaks.

import { keep, token } from "./access.js";
import { now } from "./clock.js";

const API = new URL("../hmi/v1/", import.meta.url);
/** Milliseconds without a byte after which a connection is given up; hbtd sends a comment each 15 s. */
const SILENCE = 20_000;
const FIRST_PAUSE = 500, LONGEST_PAUSE = 15_000;
/**
 * Milliseconds after which a page that nobody sees lets its connection go: a browser has six for each
 * host, and a seventh tab would wait for ever.
 */
const UNSEEN = 30_000;
/** How many pages of a browser may keep a connection; the others look for a moment, now and then. */
const KEPT = 3, MOMENT = 600, NOW_AND_THEN = 2500;

export class Refused extends Error {}

/** Return the answer to a GET request as JSON; `ask(reason)` gets a token where hbtd wants one. */
export async function get(path, ask) {
  const answer = await request(path, ask, {}, () => AbortSignal.timeout(30_000));
  return answer.json();
}

async function request(path, ask, headers, signal) {
  for (;;) {
    const sent = token();
    const answer = await fetch(new URL(path, API), {
      headers: { ...headers, ...(sent ? { Authorization: `Bearer ${sent}` } : {}) }, signal: signal(), cache: "no-store", credentials: "same-origin", redirect: "error",
    });
    if (answer.ok) return answer;
    const refused = await problem(answer);
    if (answer.status !== 401 && answer.status !== 403) throw new Error(refused);
    // Another request may have asked for a token meanwhile.
    if (token() === sent) {
      const given = await ask(refused);
      if (!given) throw new Refused(refused);
      keep(given);
    }
  }
}

async function problem(answer) {
  try {
    const { detail, title } = await answer.json();
    return `${answer.status}: ${detail ?? title}`;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

export class Feed {
  /**
   * `on.picture(picture, anew)`, `on.entries(entries)`: what hbtd says; `anew` if the events do not
   * go on from those before. `on.live()`: it is up to date. `on.lost(reason, since)`: it is no longer.
   * `on.ask(reason)`: return a token, or a promise of one; if there is none, `on.wish()` is awaited.
   */
  constructor(on) {
    this.on = on;
    this.number = 0;
    this.pause = FIRST_PAUSE;
    /** Whether nobody sees the page, so that it has no connection. */
    this.resting = false;
    this.abort = null;
    let unseen;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(unseen);
      if (document.hidden) unseen = setTimeout(() => this.rest(), UNSEEN);
    });
    if (document.hidden) unseen = setTimeout(() => this.rest(), UNSEEN);
  }

  /** Let the connection go until the page is seen. */
  rest() {
    this.resting = true;
    this.abort?.abort(new Error("nobody looks"));
  }

  /** Take pictures and events for as long as the page is open. */
  async run() {
    for (;;) {
      if (this.resting) {
        await seen();
        this.resting = false;
      }
      try {
        // Each time: hbtd may have begun its log anew, of which the numbers then tell nothing.
        await this.refresh(true);
        await this.keepUp();
        if (!this.resting) this.on.lost("hbtd has ended the connection", now());
      } catch (error) {
        if (!this.resting) this.on.lost(error.name === "TimeoutError" ? "hbtd does not answer" : error.message, error.since ?? now());
        if (error instanceof Refused) await this.on.wish();
      }
      if (!this.resting) await sleep(this.pause * (0.5 + Math.random()));
      this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    }
  }

  /** Read events until the connection breaks; now and then only, while other pages have theirs. */
  async keepUp() {
    // While the page was not seen there may have been no connection to let go: none is made then.
    while (!this.resting) {
      const release = await permit();
      if (release) {
        try {
          return await this.follow();
        } finally {
          release();
        }
      }
      await this.follow(MOMENT);
      await sleep(NOW_AND_THEN);
    }
  }

  /** Take a new picture. */
  async refresh(anew = false) {
    const picture = await get("picture", this.on.ask);
    if (anew) this.number = picture.Number;
    this.on.picture(picture, anew);
  }

  /** Read events until the connection breaks, or for so many milliseconds after they have begun. */
  async follow(moment = Infinity) {
    const abort = (this.abort = new AbortController());
    let watch, last, over = false;
    const heard = () => {
      last = now();
      clearTimeout(watch);
      watch = setTimeout(() => abort.abort(Object.assign(new Error("hbtd is silent"), { since: last })), SILENCE);
    };
    heard();
    try {
      const ask = async (reason) => {
        clearTimeout(watch); // people may take their time
        const given = await this.on.ask(reason);
        heard();
        return given;
      };
      const answer = await request("events", ask, { "Last-Event-ID": String(this.number) }, () => abort.signal);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      if (moment < Infinity) {
        setTimeout(() => {
          over = true;
          abort.abort();
        }, moment);
      }
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        heard();
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        await this.handle(events);
        this.pause = FIRST_PAUSE;
        this.on.live();
      }
    } catch (error) {
      if (!over) throw error;
    } finally {
      clearTimeout(watch);
      abort.abort();
    }
  }

  async handle(events) {
    const entries = [];
    let missed = false;
    for (const event of events) {
      const fields = {};
      for (const line of event.split("\n")) {
        const colon = line.indexOf(":");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
      }
      if (fields.id) this.number = Number(fields.id);
      if (fields.event === "transition") entries.push(JSON.parse(fields.data));
      missed ||= fields.event === "missed";
    }
    if (entries.length) this.on.entries(entries);
    if (missed) await this.refresh(true);
  }
}

/** Return a function that gives a place back; null if other pages of this browser have all. */
async function permit() {
  // Without TLS there may be no locks.
  if (!navigator.locks) return () => {};
  for (let place = 0; place < KEPT; place++) {
    const release = await new Promise((resolve) => {
      navigator.locks.request(`hbtd-events-${place}`, { ifAvailable: true }, (lock) => {
        if (lock) return new Promise((give) => resolve(give));
        return resolve(null);
      });
    });
    if (release) return release;
  }
  return null;
}

function sleep(pause) {
  return new Promise((resolve) => setTimeout(resolve, pause));
}

function seen() {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    look();
  });
}
