// The machine as this page knows it: all components, their states, and what was before.

import { now, readLapse } from "./clock.js";
import { compare } from "./xnames.js";

export const HEALTHY = 0, WARNED = 1, DEAD = 2, ABSENT = 3;
export const STATES = ["healthy", "warned", "dead"];
const LETTERS = { h: HEALTHY, w: WARNED, d: DEAD };
const CODES = { healthy: HEALTHY, warned: WARNED, dead: DEAD, unknown: ABSENT };
/** The most changes that are kept to look back. */
const MOST_KEPT = 50_000;

/**
 * Return from when on entries, the newest first, are all that there were: from `since` on, or from a later
 * time on if hbtd's log, by its parameters, may have been trimmed up to then. Times are in milliseconds.
 */
export function allFrom(entries, since, { History, History_count }, present) {
  const kept = readLapse(History ?? ""), most = Number(History_count ?? "auto");
  const earliest = Number.isNaN(kept) ? since : present - kept;
  // What is older than the newest that are kept may be there or not.
  const trimmed = entries.length >= most ? (most > 0 ? Date.parse(entries[most - 1].At) : present) : since;
  return Math.max(since, earliest, trimmed);
}

/** Return how many components are in each state. */
export function tally(states) {
  const counts = [0, 0, 0, 0];
  for (const state of states) counts[state]++;
  return counts;
}

export class Machine {
  constructor() {
    this.names = [];
    this.states = new Uint8Array(0);
    /** Which components are silent in maintenance, as 1 and 0, when the picture was taken. */
    this.spared = new Uint8Array(0);
    this.index = new Map();
    this.counts = [0, 0, 0, 0];
    /** The number of the newest entry of the log that is in the states, and of that in the changes. */
    this.number = this.logged = 0;
    /** Changes, the oldest first: {number, at, name, from, to, why, era}. */
    this.changes = [];
    /** How often the numbers may have begun anew. */
    this.era = 0;
    /** From when on all changes are known: milliseconds since 1970. */
    this.knownSince = now();
    this.newcomers = new Map();
  }

  /**
   * Take a picture of /picture in place of what was known. It is `anew` unless the events go on:
   * then those that came while the picture was on its way are newer than it.
   */
  take(picture, anew = true) {
    this.names = picture.Names ? picture.Names.split("\n") : [];
    this.states = Uint8Array.from(picture.States, (letter) => LETTERS[letter]);
    this.spared = picture.Maintenance ? Uint8Array.from(picture.Maintenance, Number) : new Uint8Array(this.names.length);
    this.index = new Map(this.names.map((name, i) => [name, i]));
    this.number = picture.Number;
    this.newcomers.clear();
    if (anew) {
      this.era++;
      this.logged = picture.Number;
      this.knownSince = Date.parse(picture.At) || now();
    }
    this.#count();
    let k = this.changes.length;
    while (k > 0 && this.changes[k - 1].era === this.era && this.changes[k - 1].number > this.number) k--;
    for (const change of this.changes.slice(k)) this.#become(change);
    return this;
  }

  /** Apply an entry of the log; return the position of its component, -1 if nothing is to be drawn. */
  apply(entry) {
    const change = this.#change(entry);
    if (change.number <= this.logged) return -1;
    this.logged = change.number;
    this.changes.push(change);
    if (this.changes.length > MOST_KEPT) {
      this.changes.splice(0, MOST_KEPT / 10);
      this.knownSince = Math.max(this.knownSince, this.changes[0].at);
    }
    // What the picture has already is not undone.
    return change.number > this.number ? this.#become(change) : -1;
  }

  #become(change) {
    this.number = change.number;
    const i = this.index.get(change.name);
    if (i === undefined) {
      this.newcomers.set(change.name, change.to);
      return -1;
    }
    this.counts[this.states[i]]--;
    this.counts[change.to]++;
    this.states[i] = change.to;
    this.spared[i] = 0;
    return i;
  }

  /** Give newcomers their places; return whether there were any. */
  admit() {
    if (!this.newcomers.size) return false;
    const added = [...this.newcomers.keys()].sort(compare);
    const all = this.names.length + added.length;
    const names = [], states = new Uint8Array(all), spared = new Uint8Array(all);
    let i = 0, j = 0;
    while (i < this.names.length || j < added.length) {
      const old = j === added.length || (i < this.names.length && compare(this.names[i], added[j]) < 0);
      states[names.length] = old ? this.states[i] : this.newcomers.get(added[j]);
      if (old) spared[names.length] = this.spared[i];
      names.push(old ? this.names[i++] : added[j++]);
    }
    this.names = names;
    this.states = states;
    this.spared = spared;
    this.index = new Map(names.map((name, k) => [name, k]));
    this.newcomers.clear();
    this.#count();
    return true;
  }

  /** Take entries of the log, the newest first, for the past; `since` is from when on they are all. */
  recall(entries, since) {
    const newest = entries[0]?.Number ?? 0;
    const newer = this.changes.filter((change) => change.era === this.era && change.number > newest);
    const all = [...entries.map((entry) => this.#change(entry)).reverse(), ...newer];
    this.changes = all.slice(-MOST_KEPT);
    this.logged = Math.max(this.logged, newest);
    // What is in the log, but in no event yet, has to be in the states, too.
    for (const change of this.changes) if (change.number > this.number) this.#become(change);
    this.knownSince = all.length > MOST_KEPT ? this.changes[0].at : since;
  }

  /** Return the states at a time, in milliseconds since 1970, as the log has them. */
  statesAt(time) {
    const states = this.states.slice(), absent = new Set();
    let k = this.changes.length - 1;
    for (; k >= 0 && this.changes[k].at > time; k--) {
      const { name, from } = this.changes[k], i = this.index.get(name);
      if (i === undefined) continue;
      states[i] = from;
      if (from === ABSENT) absent.add(i);
      else absent.delete(i);
    }
    // What was forgotten and came back was something before, which is not told by its return.
    for (; k >= 0 && absent.size; k--) {
      const i = this.index.get(this.changes[k].name);
      if (absent.delete(i)) states[i] = this.changes[k].to;
    }
    return states;
  }

  /**
   * Return since when components have been in their states at a time, by name, in milliseconds since
   * 1970. Those whose last change before is not known are not in it.
   */
  sinces(names, time) {
    const wanted = new Set(names), found = new Map();
    for (let k = this.changes.length - 1; k >= 0 && found.size < wanted.size; k--) {
      const { at, name } = this.changes[k];
      if (at <= time && wanted.has(name) && !found.has(name)) found.set(name, at);
    }
    return found;
  }

  /** Return the known changes of a component up to a time, the newest first. */
  changesOf(name, time) {
    return this.changes.filter((each) => each.name === name && each.at <= time && each.era === this.era).reverse();
  }

  #count() {
    this.counts = tally(this.states);
  }

  #change(entry) {
    return {
      number: entry.Number,
      at: Date.parse(entry.At),
      name: entry.XName,
      from: CODES[entry.From] ?? ABSENT,
      to: CODES[entry.To] ?? ABSENT,
      why: entry.Why,
      what: entry.Transition,
      era: this.era,
    };
  }
}
