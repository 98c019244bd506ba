// What hbtd says: one request for the picture, then its events; again and again when that breaks.

const API = new URL("../hmi/v1/", import.meta.url);
/** Milliseconds without a byte after which a connection is given up; hbtd sends a comment each 15 s. */
const SILENCE = 40_000;
const FIRST_PAUSE = 500, LONGEST_PAUSE = 15_000;
const TOKEN = "hbtd-token";

export class Refused extends Error {}

/** Return the answer to a GET request as JSON; `ask(reason)` gets a token where hbtd wants one. */
export async function get(path, ask, signal = AbortSignal.timeout(30_000)) {
  const answer = await request(path, ask, { signal });
  return answer.json();
}

async function request(path, ask, options) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const answer = await fetch(new URL(path, API), {
      ...options, headers, cache: "no-store", credentials: "same-origin", redirect: "error",
    });
    if (answer.ok) return answer;
    const reason = await problem(answer);
    if (answer.status !== 401 && answer.status !== 403) throw new Error(reason);
    // Another request may have asked for a token meanwhile.
    if (sessionStorage.getItem(TOKEN) === token) {
      const given = await ask(reason);
      if (!given) throw new Refused(reason);
      sessionStorage.setItem(TOKEN, given);
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
   * `on.picture(picture)`, `on.entries(entries)`: what hbtd says. `on.live()`: it is up to date.
   * `on.lost(reason)`: it is no longer. `on.ask(reason)`: return a token, or a promise of one.
   */
  constructor(on) {
    this.on = on;
    this.number = null;
    this.pause = FIRST_PAUSE;
  }

  /** Take pictures and events for as long as the page is open. */
  async run() {
    for (;;) {
      try {
        if (this.number === null) await this.refresh();
        await this.follow();
        this.on.lost("hbtd has ended the connection");
      } catch (error) {
        this.on.lost(error.name === "TimeoutError" ? "hbtd does not answer" : error.message);
        if (error instanceof Refused) await this.on.wish();
      }
      await new Promise((resolve) => setTimeout(resolve, this.pause * (0.5 + Math.random())));
      this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    }
  }

  /** Take a new picture. */
  async refresh() {
    const picture = await get("picture", this.on.ask);
    this.number = Math.max(picture.Number, this.number ?? 0);
    this.on.picture(picture);
  }

  /** Read events until the connection breaks. */
  async follow() {
    const abort = new AbortController();
    let watch;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => abort.abort(new Error("hbtd is silent")), SILENCE);
    };
    heard();
    try {
      const options = { signal: abort.signal, headers: { "Last-Event-ID": String(this.number) } };
      const answer = await request("events", this.on.ask, options);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
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
    if (missed) {
      // The log may have begun anew: its numbers are no longer those that are known.
      this.number = null;
      await this.refresh();
    }
  }
}
