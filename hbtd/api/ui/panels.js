// The panels beside the map: what is silent, what has changed, and why.

import { STATES } from "./machine.js";
import { timeOfDay } from "./clock.js";
import { place, visible } from "./xnames.js";

const MOST_CHANGES = 60;
/** Milliseconds, and lines, within which the same change of one chassis is one line. */
const TOGETHER = 3000, LATELY = 40;
const WORDS = { healthy: "is back", warned: "is quiet", dead: "died", started: "started" };

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
  return item;
}

/**
 * Show what `/summary` says is silent. `tellsHSM` is false if hbtd tells HSM nothing; `onPart(names)` is
 * called for what is clicked.
 */
export function showSilent(list, summary, tellsHSM, onPart) {
  const items = summary.Groups.map((group) => {
    const since = group.Since ? `since ${timeOfDay(Date.parse(group.Since))}` : "";
    const told = !tellsHSM ? "" : group.Told ? `HSM told ${timeOfDay(Date.parse(group.Told))}` : "HSM not told of all";
    const about = [since, told].filter(Boolean).join(", ");
    return row(group.XName === "s0" ? "the whole machine" : group.XName, `${group.Silent}/${group.Total}`, about, group.Dead ? "dead" : "warned", () => onPart(group.XName));
  });
  if (summary.Silent) {
    const more = summary.More ? ` and ${summary.More} more` : "";
    const dead = summary.Groups.reduce((left, group) => left - group.Dead, summary.Counts.dead);
    items.push(row(summary.Silent + more, "", items.length ? "apart from these" : "here and there", dead > 0 ? "dead" : "warned", () => onPart(summary.Silent)));
  }
  if (!items.length) items.push(element("li", { className: "quiet", text: "nobody" }));
  if (tellsHSM && !summary.HSM.Ready) items.push(element("li", { className: "trouble", text: "HSM does not accept updates." }));
  if (summary.HSM.SetAside) items.push(element("li", { className: "trouble", text: `HSM rejects ${summary.HSM.SetAside} of them; they are set aside.` }));
  replace(list, items);
}

function row(name, count, about, state, onClick) {
  const button = element("button", { key: name, onclick: onClick },
    element("span", { className: `key ${state}`, text: state === "dead" ? "×" : "!" }),
    element("b", { text: name }), element("span", { className: "count", text: count }),
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
    const state = STATES[each.to] ?? "healthy";
    const verb = each.what === "started" ? WORDS.started : WORDS[state];
    const text = each.count > 1 ? `${each.count} in ${each.name}: ${verb}` : `${each.name} ${verb}`;
    return element("li", {}, element("button", { key: `${each.era}.${each.first}`, title: visible(each.why ?? ""), onclick: () => onPart(each.name) },
      element("time", { text: timeOfDay(each.at) }),
      element("span", { className: `key ${state}`, text: state === "dead" ? "×" : state === "warned" ? "!" : "" }),
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

/** Show of which component something will be said, and its state. */
export function showName(section, name, state) {
  section.querySelector("h2").replaceChildren(
    element("span", { className: `key ${state}`, text: state === "dead" ? "×" : state === "warned" ? "!" : "" }),
    element("span", { text: name }),
  );
}

/** Show what `/components/{name}` says of a component. */
export function showWhy(section, answer) {
  showName(section, answer.XName, answer.State);
  const facts = [];
  const fact = (name, value) => value && facts.push(element("dt", { text: name }), element("dd", { text: value }));
  fact("type", answer.Type);
  fact("host name", answer.Hostname);
  fact("NID", answer.NID);
  fact(answer.State, answer.Since ? `since ${local(answer.Since)}` : "");
  fact("why", answer.Why?.Text);
  if (answer.LastHeartbeat) {
    fact("heard", `${local(answer.LastHeartbeat)}${answer.Age === null ? "" : `, ${ago(answer.Age)} ago`}${answer.Source ? ` from ${answer.Source}` : ""}`);
  }
  // Apart, so that a text from right to left leaves the other one where it is.
  fact("it said", answer.Status);
  fact("its time", answer.Timestamp);
  const why = answer.Why;
  if (why?.MeanPeriod) fact("period", `${why.MeanPeriod.toFixed(2)} s ± ${(why.Deviation ?? 0).toFixed(2)} s, longest gap ${(why.LongestGap ?? 0).toFixed(1)} s`);
  if (why?.Warntime) fact("limits", `warned after ${why.Warntime} s of silence, dead after ${why.Errtime} s`);
  fact("later", why?.Delay);
  if (answer.HSM) fact("HSM", [answer.HSM.State, answer.HSM.At && local(answer.HSM.At), answer.HSM.Reason].filter(Boolean).join(", "));
  const past = (answer.Transitions ?? []).slice(0, 8).map((each) => element("li", {},
    element("time", { text: local(each.At) }), element("span", { text: `${each.Transition}: ${each.Why}` })));
  replace(section.querySelector("div"), [element("dl", {}, ...facts), element("ol", {}, ...past)]);
}

function local(time) {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return `${today ? "" : `${date.toLocaleDateString()} `}${timeOfDay(date.getTime())}`;
}

function ago(seconds) {
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}
