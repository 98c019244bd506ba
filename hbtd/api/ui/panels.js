// The lists beside the map: what is silent, and what has changed.

import { linesOf, newest } from "./changes.js";
import { local, timeOfDay } from "./clock.js";
import { ABSENT, DEAD, STATES, WARNED } from "./machine.js";
import { apart, silentParts } from "./silence.js";
import { fold, matcher, splitOutsideBrackets, visible } from "./xnames.js";

const MOST_CHANGES = 60;
/** The most parts of the machine that are listed as silent, and the most components besides. */
const MOST_PARTS = 100, MOST_NAMED = 500;
/** The most letters that names take before the others are only counted. */
const MOST_LETTERS = 90;
/** What the words for changes say, and what they don't. */
const MEANINGS = {
  "heard again": "A heartbeat came after a warning; whether it has been restarted is not known.",
  returned: "A heartbeat came from what was dead; whether it has been restarted is not known.",
  started: "Its first heartbeat.",
};
const GLYPHS = { warned: "!", dead: "×" };

/** Make an element with properties, a text, and a key for `replace`, and put other elements into it. */
export function element(tag, { text, key, ...properties } = {}, ...inside) {
  const made = document.createElement(tag);
  if (key !== undefined) made.dataset.key = key;
  Object.assign(made, properties);
  if (text !== undefined) made.textContent = visible(text);
  made.append(...inside);
  return made;
}

/**
 * Put elements into another one in place of what is in it, unless they are the same. Whoever has the
 * focus keeps it, by `data-key`; while a button in it is pressed, nothing changes under the pointer.
 */
export function replace(root, elements) {
  if (root.rove) giveStop(root, elements);
  const same = elements.length === root.childElementCount && elements.every((each, k) => each.isEqualNode(root.children[k]));
  if (same || root.querySelector("button:active")) return;
  const focused = root.contains(document.activeElement) ? document.activeElement : null;
  const before = focused && [...root.querySelectorAll("[data-key]")].indexOf(focused), top = root.scrollTop;
  const present = new Map([...root.children].map((each) => [each.firstElementChild?.dataset.key, each]));
  const kept = elements.map((each) => renew(present.get(each.firstElementChild?.dataset.key), each));
  if (kept.length === root.childElementCount && kept.every((each, k) => each === root.children[k])) return;
  root.replaceChildren(...kept);
  root.scrollTop = top;
  if (!focused) return;
  const keyed = [...root.querySelectorAll("[data-key]")];
  const heir = keyed.find((each) => each.dataset.key === focused.dataset.key) ?? keyed[Math.min(before, keyed.length - 1)];
  heir?.focus({ preventScroll: true });
}

/** Make the buttons of a list one stop of the Tab key, in which arrows lead from one to another. */
export function rove(list) {
  const key = (button) => button?.dataset.key;
  list.rove = { key: undefined };
  list.addEventListener("focusin", ({ target }) => {
    if (key(target) === undefined) return;
    list.rove.key = key(target);
    for (const each of list.querySelectorAll("button")) each.tabIndex = each === target ? 0 : -1;
  });
  list.addEventListener("keydown", (event) => {
    const buttons = [...list.querySelectorAll("button")], k = buttons.indexOf(event.target);
    const next = { ArrowDown: k + 1, ArrowUp: k - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (k < 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    buttons[next]?.focus();
  });
}

/** Let Tab stop at the button at which it stopped before; else at the first. */
function giveStop({ rove: { key } }, elements) {
  const buttons = elements.map((each) => each.firstElementChild).filter((each) => each?.tagName === "BUTTON");
  const stop = buttons.find((each) => each.dataset.key === key) ?? buttons[0];
  for (const each of buttons) each.tabIndex = each === stop ? 0 : -1;
}

/** Return an item of a list with what is in another one that has its key, or that other one. */
function renew(item, other) {
  if (item?.tagName !== "LI" || other.firstElementChild?.dataset.key === undefined) return other;
  const [to, from] = [item.firstElementChild, other.firstElementChild];
  to.onclick = from.onclick;
  if (to.tabIndex !== from.tabIndex) to.tabIndex = from.tabIndex;
  if (!to.isEqualNode(from)) to.replaceChildren(...from.childNodes);
  if (to.title !== from.title) to.title = from.title;
  if (to.className !== from.className) to.className = from.className;
  return item;
}

/** Return the mark of a state: its colour and glyph. */
export function keyOf(state = "absent") {
  return element("span", { className: `key ${state}`, text: GLYPHS[state] ?? "" });
}

/**
 * Show which parts of the machine are silent with these states, at a time: null for now. Of the present
 * `told` says more; without it, hbtd tells HSM nothing. If the list is `held`, its rows stay where they
 * are. `onPart(names)` is called for what is clicked. Return the names of components in no silent part.
 */
export function showSilent(list, { machine, layout, states, time, told, held }, onPart) {
  const parts = layout ? silentParts(layout, states).slice(0, MOST_PARTS) : [];
  const lone = [DEAD, WARNED].map((state) => [state, apart(states, state, parts)]);
  const isSilent = (i) => states[i] === DEAD || states[i] === WARNED;
  const within = parts.map(({ start, end }) => Array.from({ length: end - start }, (_, k) => start + k).filter(isSilent));
  const sinces = machine.sinces([...within, ...lone.map(([, found]) => found)].flat().map((i) => machine.names[i]), time ?? Infinity);
  const timesOf = (positions) => positions.map((i) => sinces.get(machine.names[i]));
  const says = time === null ? told : null;
  const items = parts.map((part, k) => {
    const times = timesOf(within[k]), known = times.filter((each) => each !== undefined);
    const last = known.length ? known.reduce((a, b) => Math.max(a, b)) : undefined;
    const name = part.name === "s0" ? "the whole machine" : part.name;
    // What is in a silent part is told with it.
    const about = [sinceText(times, machine.knownSince), says?.ofPart((part.whole ?? part).name, last)];
    return row({ names: [name], key: part.name, part, about, onClick: () => onPart(part.name) });
  });
  for (const [state, found] of lone) {
    if (!found.length) continue;
    const names = found.map((i) => machine.names[i]), part = { [STATES[state]]: found.length };
    const about = [sinceText(timesOf(found), machine.knownSince), says?.ofComponents(names, sinces)];
    const shown = folded(names);
    items.push(row({ ...shown, key: STATES[state], part, about, onClick: () => onPart(fold(names.slice(0, MOST_NAMED))) }));
  }
  if (!items.length) items.push(element("li", { className: "none", text: states.some((each) => each !== ABSENT) || time === null ? "no node" : nothingBefore(machine) }));
  const trouble = (text) => items.push(element("li", { className: "trouble", text: time === null ? text : `Now: ${text}` }));
  if (told?.summary && !told.summary.HSM.Ready) trouble("HSM does not accept updates.");
  if (told?.summary?.HSM.SetAside) trouble(`HSM rejects ${told.summary.HSM.SetAside} of them; they are set aside.`);
  replace(list, held ? holding(list, items) : items);
  return lone.flatMap(([, found]) => found.map((i) => machine.names[i]));
}

/** Return what is to be said of a moment before all that is known. */
export function nothingBefore(machine) {
  return `Nothing is recorded before ${local(machine.changes[0]?.at ?? machine.knownSince)}.`;
}

/** Return names as the words of a nodeset, as many as there is room for, and how many `more` there are. */
function folded(names) {
  const words = splitOutsideBrackets(fold(names.slice(0, MOST_NAMED)));
  let shown = 1, length = words[0].length;
  while (shown < words.length && length + words[shown].length < MOST_LETTERS) length += words[shown++].length;
  if (shown === words.length && names.length <= MOST_NAMED) return { names: words, more: 0 };
  const test = matcher(words.slice(0, shown).join(","));
  return { names: words.slice(0, shown), more: test ? names.filter((name) => !test(name)).length : 0 };
}

/** Return rows so that those that are shown keep their places, also if they have nothing more to say. */
function holding(list, items) {
  const keyIn = (item) => item.firstElementChild?.dataset.key;
  const coming = new Map(items.map((each) => [keyIn(each), each])), shown = [...list.children].filter(keyIn);
  const kept = shown.map((each) => {
    const next = coming.get(keyIn(each));
    if (next) return next;
    const gone = each.cloneNode(true);
    gone.firstElementChild.onclick = each.firstElementChild.onclick;
    gone.firstElementChild.classList.add("gone");
    return gone;
  });
  const before = new Set(shown.map(keyIn));
  return [...kept, ...items.filter((each) => keyIn(each) ? !before.has(keyIn(each)) : !each.classList.contains("none") || !kept.length)];
}

/** Return since when components are silent, given the times of their last changes as far as they are known. */
function sinceText(times, knownSince) {
  const known = times.filter((each) => each !== undefined).sort((a, b) => a - b);
  const first = known.length < times.length ? `before ${local(knownSince)}` : local(known[0]);
  const last = known.length ? local(known.at(-1)) : first;
  return first === last ? `since ${first}` : `since ${first} – ${last}`;
}

function row({ names, more = 0, key, part: { warned = 0, dead = 0, total = 0, whole }, about, onClick }) {
  const figure = (count) => count.toLocaleString("en");
  const counts = [warned && `${figure(warned)} warned`, dead && `${figure(dead)} dead`].filter(Boolean).join(", ");
  const keys = [dead && "dead", warned && "warned"].filter(Boolean).map(keyOf);
  // A line ends between two names, not in one.
  const text = names.flatMap((each, k) => (k ? [",", element("wbr"), visible(each)] : [visible(each)]));
  const button = element("button", { key, className: whole ? "inner" : "", onclick: onClick },
    element("span", { className: "keys" }, ...keys),
    element("b", {}, ...text, ...(more ? [` … and ${figure(more)} more`] : [])),
    element("span", { className: "count", text: total ? `${counts} of ${figure(total)}` : counts }),
    element("small", { text: about.filter(Boolean).join(", ") }));
  return element("li", {}, button);
}

/** Show the newest changes, as lines; `onPart(name)` is called for what is clicked. */
export function showChanges(list, changes, until, onPart) {
  const { lines, cut } = newest(linesOf(changes, until), MOST_CHANGES);
  const items = lines.map((each) => {
    const text = each.count > 1 ? `${each.count.toLocaleString("en")} ${each.word} in ${each.name}` : `${each.name} ${each.word}`;
    const title = [MEANINGS[each.word], each.why].filter(Boolean).join(" ");
    return element("li", {}, element("button", { key: each.key, title: visible(title), onclick: () => onPart(each.name) },
      element("time", { text: timeOfDay(each.at) }),
      keyOf(STATES[each.to]),
      element("span", { text })));
  });
  if (cut < items.length) items.splice(cut, 0, element("li", { className: "none", text: "Before that, deaths only:" }));
  replace(list, items);
}

/** Show a text beside a point of the map, which is `room` pixels wide; without a text, hide it. */
export function showTip(tip, text, x, y, room) {
  tip.hidden = !text;
  if (!text) return;
  if (tip.textContent !== text) tip.textContent = text;
  tip.style.left = `${Math.min(x + 14, room - tip.offsetWidth - 4)}px`;
  tip.style.top = `${Math.max(y - 30, 2)}px`;
}
