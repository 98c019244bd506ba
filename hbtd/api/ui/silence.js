// Which parts of the machine are silent, by the rules of hbtd's /summary: at whatever moment is shown.

import { ABSENT, DEAD, WARNED } from "./machine.js";

/** From how many silent components on, and from which part of all on, a part of the machine is silent. */
const FEWEST = 2, MOSTLY = 3 / 4;

/**
 * Return the silent parts of a machine with these states, {name, start, end, warned, dead, total}: the
 * largest that are mostly silent, none in another one, those with most silent components first. Each
 * is followed by the parts of it that are mostly dead though it is not itself: they have a `whole`.
 */
export function silentParts(layout, states) {
  const sums = [ABSENT, WARNED, DEAD].map((state) => sumsOf(states, state));
  const [absent, warned, dead] = sums.map((sum) => ({ start, end }) => sum[end] - sum[start]);
  const total = (part) => part.end - part.start - absent(part);
  const counted = ({ name, start, end }) => {
    const part = { name, start, end };
    return { ...part, warned: warned(part), dead: dead(part), total: total(part) };
  };
  const silent = search(layout.levels, states.length, (part) => warned(part) + dead(part), total).map(counted);
  const died = search(layout.levels, states.length, dead, total).map(counted);
  silent.sort((a, b) => b.warned + b.dead - a.warned - a.dead || a.start - b.start);
  return silent.flatMap((whole) => {
    const inside = died.filter(({ name, start, end }) => name !== whole.name && start >= whole.start && end <= whole.end);
    return [whole, ...inside.sort((a, b) => a.start - b.start).map((each) => ({ ...each, whole }))];
  });
}

/** Return the positions of the components in a state that are in none of some parts. */
export function apart(states, state, parts) {
  const found = [], sorted = parts.filter((each) => !each.whole).sort((a, b) => a.start - b.start);
  let i = 0;
  for (const { start, end } of [...sorted, { start: states.length, end: states.length }]) {
    for (; i < start; i++) if (states[i] === state) found.push(i);
    i = Math.max(i, end);
  }
  return found;
}

/** Return how many components before each position are in a state. */
function sumsOf(states, state) {
  const sums = new Uint32Array(states.length + 1);
  for (let i = 0; i < states.length; i++) sums[i + 1] = sums[i] + (states[i] === state);
  return sums;
}

/** Return the largest parts in which most of all components are `silent`, as `_is_due_to_one` of hbtd has it. */
function search(levels, length, silent, total) {
  const found = [], waiting = [{ name: "s0", level: -1, start: 0, end: length }];
  while (waiting.length) {
    const part = waiting.pop(), count = silent(part), all = total(part);
    const inner = inside(levels[part.level + 1] ?? [], part);
    const most = inner.reduce((largest, each) => Math.max(largest, silent(each)), 0);
    const ofOne = most === count || (count < all && most >= MOSTLY * count);
    if (count >= FEWEST && count >= MOSTLY * all && !ofOne) found.push(part);
    else for (const each of inner) if (silent(each) >= FEWEST) waiting.push(each);
  }
  return found;
}

/** Return those of some parts, in the order of their starts, that begin in another one. */
function inside(parts, { start, end }) {
  return parts.slice(firstFrom(parts, start), firstFrom(parts, end));
}

function firstFrom(parts, position) {
  let low = 0, high = parts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (parts[middle].start < position) low = middle + 1;
    else high = middle;
  }
  return low;
}
