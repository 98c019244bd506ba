// The machine as text: a tree of its parts with their counts, and of the components that are silent.

import { ABSENT, DEAD, STATES, WARNED } from "./machine.js";
import { element, replace } from "./panels.js";

/** The most components that a part lists by name. */
const MOST_NAMED = 200;

/** Show the tree in an element; `onName(xname)` is called for the component or part that is chosen. */
export function showOutline(nav, layout, names, states, onName) {
  // What is opened later is shown as it is then.
  nav.shown = { names, states };
  const open = new Set([...nav.querySelectorAll("details[open] > summary")].map((each) => each.dataset.key));
  const inside = (level, start, end) => layout.parts.filter((each) => each.level === level && each.start >= start && each.end <= end);
  const build = (part) => {
    const key = `part ${part.level} ${part.name}`;
    const summary = element("summary", { key, text: `${part.name || "others"}: ${count(states, part.start, part.end).text}` });
    const details = element("details", { open: open.has(key) }, summary);
    const fill = () => details.childElementCount > 1 || details.append(...contents(part));
    details.addEventListener("toggle", () => details.open && fill());
    if (details.open) fill();
    return details;
  };
  const contents = (part) => {
    const parts = part.level < 2 && part.name ? inside(part.level + 1, part.start, part.end) : [];
    // What is in none of its parts: a management controller, say.
    const own = [], { names, states } = nav.shown;
    let i = part.start;
    for (const each of [...parts, { start: part.end }]) {
      for (; i < each.start && own.length < MOST_NAMED; i++) if (states[i] !== ABSENT) own.push(i);
      i = Math.max(i, each.end);
    }
    const items = own.map((k) => element("li", {}, element("button", {
      key: names[k], text: `${names[k]}: ${STATES[states[k]]}`, onclick: () => onName(names[k]),
    })));
    return [...(items.length ? [element("ul", {}, ...items)] : []), ...parts.map(build)];
  };
  replace(nav, [element("p", { text: `The machine: ${count(states, 0, states.length).text}` }), ...inside(0, 0, states.length).map(build)]);
}

function count(states, start, end) {
  let warned = 0, dead = 0, all = 0;
  for (let i = start; i < end; i++) {
    all += states[i] !== ABSENT;
    warned += states[i] === WARNED;
    dead += states[i] === DEAD;
  }
  const figure = (number) => number.toLocaleString("en"), words = [`${figure(all - warned - dead)} healthy`];
  if (warned) words.push(`${figure(warned)} warned`);
  if (dead) words.push(`${figure(dead)} dead`);
  return { text: `${words.join(", ")} of ${figure(all)}` };
}
