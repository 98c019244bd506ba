// The lists beside the map: what is silent, and what has changed.

import { local, timeOfDay } from "./clock.js";
import { DEAD, STATES, WARNED } from "./machine.js";
import { apart, silentParts } from "./silence.js";
import { fold, place, visible } from "./xnames.js";

const MOST_CHANGES = 60;
/** Milliseconds, and lines, within which the same change of one chassis is one line. */
const TOGETHER = 3000, LATELY = 40;
/** The most parts of the machine that are listed as silent, and the most components besides. */
const MOST_PARTS = 100, MOST_NAMED = 500;
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

/** Return an item of a list with what is in another one that has its key, or that other one. */
function renew(item, other) {
  if (item?.tagName !== "LI" || other.firstElementChild?.dataset.key === undefined) return other;
  const [to, from] = [item.firstElementChild, other.firstElementChild];
  to.onclick = from.onclick;
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
 * `summary`, the answer of /summary, says more; `tellsHSM` is false if hbtd tells HSM nothing.
 * `onPart(names)` is called for what is clicked.
 */
export function showSilent(list, { machine, layout, states, time, summary, tellsHSM }, onPart) {
  const parts = layout ? silentParts(layout, states).slice(0, MOST_PARTS) : [];
  const lone = [DEAD, WARNED].map((state) => [state, apart(states, state, parts)]);
  const isSilent = (i) => states[i] === DEAD || states[i] === WARNED;
  const within = parts.map(({ start, end }) => Array.from({ length: end - start }, (_, k) => start + k).filter(isSilent));
  const sinces = machine.sinces([...within, ...lone.map(([, found]) => found)].flat().map((i) => machine.names[i]), time ?? Infinity);
  const since = (positions) => sinceText(positions.map((i) => sinces.get(machine.names[i])), machine.knownSince);
  const items = parts.map((part, k) => {
    const said = time === null ? summary?.Groups.find((each) => each.XName === part.name) : undefined;
    const told = !said || !tellsHSM ? "" : said.Told ? `HSM told ${local(Date.parse(said.Told))}` : "HSM not told of all";
    const name = part.name === "s0" ? "the whole machine" : part.name;
    return row({ name, part, about: [since(within[k]), told].filter(Boolean).join(", "), onClick: () => onPart(part.name) });
  });
  for (const [state, found] of lone) {
    if (!found.length) continue;
    const names = fold(found.slice(0, MOST_NAMED).map((i) => machine.names[i]));
    const more = found.length > MOST_NAMED ? ` and ${found.length - MOST_NAMED} more` : "";
    const part = { [STATES[state]]: found.length };
    items.push(row({ name: names + more, key: STATES[state], part, about: since(found), onClick: () => onPart(names) }));
  }
  if (!items.length) items.push(element("li", { className: "none", text: "nobody" }));
  const trouble = (text) => items.push(element("li", { className: "trouble", text: time === null ? text : `Now: ${text}` }));
  if (summary && tellsHSM && !summary.HSM.Ready) trouble("HSM does not accept updates.");
  if (summary?.HSM.SetAside) trouble(`HSM rejects ${summary.HSM.SetAside} of them; they are set aside.`);
  replace(list, items);
}

/** Return since when components are silent, given the times of their last changes as far as they are known. */
function sinceText(times, knownSince) {
  const known = times.filter((each) => each !== undefined).sort((a, b) => a - b);
  const first = known.length < times.length ? `before ${local(knownSince)}` : local(known[0]);
  const last = known.length ? local(known.at(-1)) : first;
  return first === last ? `since ${first}` : `since ${first} – ${last}`;
}

function row({ name, key = name, part: { warned = 0, dead = 0, total = 0, whole }, about, onClick }) {
  const counts = [warned && `${warned} warned`, dead && `${dead} dead`].filter(Boolean).join(", ");
  const keys = [dead && "dead", warned && "warned"].filter(Boolean).map(keyOf);
  const button = element("button", { key, className: whole ? "inner" : "", onclick: onClick },
    element("span", { className: "keys" }, ...keys),
    element("b", { text: name }), element("span", { className: "count", text: total ? `${counts} of ${total}` : counts }),
    element("small", { text: about }));
  return element("li", {}, button);
}

/** Show the newest changes, those of one chassis that belong together on one line. */
export function showChanges(list, changes, until, onPart) {
  const rows = [];
  for (let k = changes.length - 1; k >= 0 && rows.length <= 3 * MOST_CHANGES; k--) {
    const change = changes[k];
    if (change.at > until) continue;
    const part = place(change.name)[1] || change.name;
    const like = rows.slice(-LATELY).find(
      (each) => each.what === change.what && each.part === part && each.at - change.at < TOGETHER,
    );
    if (like) {
      like.count++;
      like.name = part;
      like.first = change.number;
    } else rows.push({ ...change, part, count: 1, first: change.number });
  }
  replace(list, joinCabinets(rows).slice(0, MOST_CHANGES).map((each) => {
    // The log's own word: started, warned, restarted, died.
    const text = each.count > 1 ? `${each.count} ${each.what} in ${each.name}` : `${each.name} ${each.what}`;
    return element("li", {}, element("button", { key: `${each.era}.${each.first}`, title: visible(each.why ?? ""), onclick: () => onPart(each.name) },
      element("time", { text: timeOfDay(each.at) }),
      keyOf(STATES[each.to]),
      element("span", { text })));
  }));
}

/** Make one line of the lines about three chassis or more of a cabinet that changed together. */
function joinCabinets(rows) {
  const joined = [];
  for (const each of rows) {
    const [cabinet, chassis] = place(each.name);
    const alike = (other) => other.what === each.what && Math.abs(other.at - each.at) < TOGETHER && place(other.name)[0] === cabinet;
    if (!cabinet || !chassis || rows.filter(alike).length < 3) joined.push(each);
    else {
      const line = joined.find((other) => other.name === cabinet && alike(other));
      if (line) line.count += each.count;
      else joined.push({ ...each, name: cabinet });
    }
  }
  return joined;
}
