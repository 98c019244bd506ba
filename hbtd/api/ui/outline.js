// The machine as text: a tree of its parts with their counts, and of the components that are silent.

import { ABSENT, DEAD, STATES, WARNED } from "./machine.js";
import { element } from "./panels.js";

/** The most components that a part lists by name. */
const MOST_NAMED = 200;

/** Show the tree in an element; `onName(xname)` is called for the component or part that is chosen. */
export function showOutline(nav, layout, names, states, onName) {
  const open = new Set([...nav.querySelectorAll("details[open]")].map((each) => each.dataset.name));
  const parts = layout.parts;
  const build = (level, start, end) => parts
    .filter((each) => each.level === level && each.start >= start && each.end <= end)
    .map((each) => {
      const { silent, text } = count(states, each.start, each.end);
      const details = element("details", { open: open.has(each.name) }, element("summary", { text: `${each.name || "others"}: ${text}` }));
      details.dataset.name = each.name;
      const fill = () => {
        if (details.childElementCount > 1) return;
        details.append(...(level < 2 && each.name ? build(level + 1, each.start, each.end) : []));
        if (level === 2 || details.childElementCount === 1) details.append(list(each, silent));
      };
      details.addEventListener("toggle", () => details.open && fill());
      if (details.open) fill();
      return details;
    });
  const list = (part) => {
    const items = [];
    for (let i = part.start; i < part.end && items.length < MOST_NAMED; i++) {
      if (states[i] === ABSENT) continue;
      items.push(element("li", {}, element("button", { text: `${names[i]}: ${STATES[states[i]]}`, onclick: () => onName(names[i]) })));
    }
    return element("ul", {}, ...items);
  };
  nav.replaceChildren(element("p", { text: `The machine: ${count(states, 0, states.length).text}` }), ...build(0, 0, states.length));
}

function count(states, start, end) {
  let warned = 0, dead = 0, all = 0;
  for (let i = start; i < end; i++) {
    all += states[i] !== ABSENT;
    warned += states[i] === WARNED;
    dead += states[i] === DEAD;
  }
  const silent = warned + dead;
  const words = [`${all - silent} healthy`];
  if (warned) words.push(`${warned} warned`);
  if (dead) words.push(`${dead} dead`);
  return { silent, text: `${words.join(", ")}, of ${all}` };
}
