// What has changed, as lines: what happened to many of one part of the machine at about the same time.

import { DEAD } from "./machine.js";
import { place } from "./xnames.js";

/** Milliseconds from its first change on in which the same change in a chassis, or a cabinet, is in one line. */
const TOGETHER = 3000;
/** The most changes that are looked at: the newest, and as many deaths before. */
const MOST_READ = 20_000;
/** From how many chassis of a cabinet on, that changed together, the cabinet has one line. */
const FEWEST_CHASSIS = 3;

/**
 * Return the word for a transition, given the state before. Those of the log are hbtd's view: it can't
 * know whether what is heard again has been started again.
 */
export function wordOf(transition, from) {
  if (transition === "restarted") return "heard again";
  return transition === "started" && from === DEAD ? "returned" : transition;
}

/**
 * Return lines, the newest first, for the changes up to a time, the oldest first: {at, word, name,
 * count, to, why, key}. Each change is in one line, named by the smallest part that has all of it.
 * `at` is when its first change was, so that a line stays where it is while it grows.
 */
export function linesOf(changes, until = Infinity) {
  return joinCabinets(joinChassis(changes, until)).map(asLine).sort((a, b) => b.at - a.at || b.number - a.number);
}

/** Return the newest of some lines, of which deaths are kept longest; `cut` is how many come before one is left out. */
export function newest(lines, most) {
  if (lines.length <= most) return { lines, cut: lines.length };
  const cut = Math.floor(most / 2), older = lines.slice(cut), deaths = older.filter((each) => each.to === DEAD);
  if (!deaths.length) return { lines: lines.slice(0, most), cut: most };
  return { lines: [...lines.slice(0, cut), ...deaths.slice(0, most - cut)], cut };
}

function joinChassis(changes, until) {
  const groups = [], growing = new Map();
  const known = until === Infinity ? changes : changes.filter((each) => each.at <= until);
  const deaths = known.slice(0, -MOST_READ).filter((each) => each.to === DEAD).slice(-MOST_READ);
  for (const change of [...deaths, ...known.slice(-MOST_READ)]) {
    change.place ??= place(change.name);
    const part = change.place[1] || change.name, word = (change.word ??= wordOf(change.what, change.from));
    let ofPart = growing.get(part);
    if (!ofPart) growing.set(part, (ofPart = {}));
    const group = ofPart[word];
    // What happens to a component again is another line.
    if (group && change.at - group.at < TOGETHER && !group.names.has(change.name)) {
      group.changes.push(change);
      group.names.add(change.name);
    } else {
      const cabinet = change.place[1] && change.place[0];
      groups.push((ofPart[word] = { at: change.at, word, part, cabinet, changes: [change], names: new Set([change.name]) }));
    }
  }
  return groups;
}

/** Make one of the groups of chassis of a cabinet that began together, if they are many. */
function joinCabinets(groups) {
  const joined = [], taken = new Set(), alike = new Map();
  for (const group of groups) {
    const key = `${group.cabinet} ${group.word}`;
    if (!alike.has(key)) alike.set(key, []);
    alike.get(key).push(group);
  }
  for (const ofCabinet of alike.values()) {
    ofCabinet.forEach((first, k) => {
      if (taken.has(first)) return;
      let end = k;
      while (end < ofCabinet.length && ofCabinet[end].at - first.at < TOGETHER) end++;
      const near = ofCabinet.slice(k, end).filter((each) => !taken.has(each));
      // Of each chassis the first.
      const parts = new Map(near.reverse().map((each) => [each.part, each]));
      const together = first.cabinet && parts.size >= FEWEST_CHASSIS ? [...parts.values()] : [first];
      for (const each of together) taken.add(each);
      joined.push(together.length > 1 ? { ...first, changes: together.flatMap((each) => each.changes) } : first);
    });
  }
  return joined;
}

function asLine({ at, word, changes }) {
  const first = changes[0], count = changes.length, name = count === 1 ? first.name : common(changes);
  return { at, word, name, count, to: first.to, number: first.number, key: `${first.era}.${first.number}`, why: changes.at(-1).why };
}

/** Return the smallest part of the machine that has all of some changes. */
function common(changes) {
  const [first] = changes;
  return first.place.findLast((part, level) => part && changes.every((each) => each.place[level] === part));
}
