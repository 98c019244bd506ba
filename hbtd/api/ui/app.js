// The page: connects what hbtd says with the map, the panels and the keys.

import { Feed, get } from "./feed.js";
import { lay } from "./layout.js";
import { ABSENT, DEAD, Machine, STATES, WARNED } from "./machine.js";
import { Map2D } from "./map.js";
import { showOutline } from "./outline.js";
import { showChanges, showSilent, showWhy } from "./panels.js";
import { Strip, timeOfDay } from "./strip.js";
import { matcher, visible, within } from "./xnames.js";

/** Milliseconds between two summaries, between two drawings of the panels, and before newcomers get places. */
const SUMMARY_EVERY = 5000, PANELS_EVERY = 250, ADMIT_EVERY = 300;
/** The most pages of the history that are read to look back. */
const MOST_PAGES = 20;

const find = (id) => document.getElementById(id);
const machine = new Machine();
const map = new Map2D(find("canvas"), { onSelect: select, onHover: hover });
const strip = new Strip(find("strip"), machine, lookBack);
const chips = [...document.querySelectorAll("#counters button")];
let onlyState = -1, onlyNames = null, past = null, current = "", lostAt = null, queries = 0, tellsHSM;

// What hbtd says

const feed = new Feed({
  ask,
  wish: () => new Promise((resolve) => find("status").addEventListener("click", resolve, { once: true })),
  picture(picture) {
    machine.take(picture);
    placeAll();
    refreshSoon();
  },
  entries(entries) {
    for (const entry of entries) {
      const i = machine.apply(entry);
      if (i >= 0 && past === null) map.touch(i);
    }
    if (machine.newcomers.size) admitSoon();
    if (onlyState >= 0) filterSoon();
    refreshSoon();
    summarizeSoon();
  },
  live() {
    if (lostAt === null && find("status").dataset.state === "live") return;
    lostAt = null;
    document.body.classList.remove("stale");
    banner("");
    status("live", "live");
  },
  lost(reason) {
    if (lostAt === null) lostAt = Date.now();
    document.body.classList.add("stale");
    status("stale", "connecting again");
    banner(`What you see is of ${timeOfDay(lostAt)}: ${reason}. Connecting again …`);
  },
});

async function summarize() {
  try {
    const summary = await get("summary", ask);
    const total = machine.counts[0] + machine.counts[1] + machine.counts[2] + machine.newcomers.size;
    // What was forgotten is in no event.
    if (summary.Counts.total < total && lostAt === null) await feed.refresh();
    tellsHSM ??= (await get("params", ask)).Nosm !== "1";
    showSilent(find("silent").querySelector("ul"), summary, tellsHSM, showPart);
  } catch {
    // The feed says what is wrong.
  }
}

async function recall() {
  const since = Date.now() - strip.span;
  const entries = [];
  let after = "", next = "";
  try {
    for (let page = 0; page < MOST_PAGES; page++) {
      const answer = await get(`history?since=${(since / 1000).toFixed(3)}&order=newest${after}`, ask);
      entries.push(...answer.Entries);
      next = answer.Next;
      if (!next) break;
      after = `&after=${encodeURIComponent(next)}`;
    }
    machine.recall(entries, next ? Date.parse(entries.at(-1).At) : since);
    strip.draw();
    refreshSoon();
  } catch (error) {
    announce(`The history can't be read: ${error.message}`);
  }
}

// What is shown

const admitSoon = throttled(ADMIT_EVERY, () => machine.admit() && placeAll());
const refreshSoon = throttled(PANELS_EVERY, () => {
  const states = shownStates();
  const counts = past === null ? machine.counts : tally(states);
  chips.forEach((chip, state) => (chip.querySelector("b").textContent = counts[state].toLocaleString("en")));
  find("empty").hidden = machine.names.length > 0 || find("status").dataset.state !== "live";
  const dead = counts[DEAD], quiet = counts[WARNED];
  document.title = dead + quiet ? `${dead} dead, ${quiet} warned – hbtd` : "hbtd";
  showChanges(find("changes").querySelector("ol"), machine.changes, past ?? Infinity, showName);
  if (!find("outline").hidden) showOutline(find("outline"), map.layout, machine.names, states, showName);
  strip.draw();
});
const filterSoon = throttled(PANELS_EVERY, filter);
const summarizeSoon = throttled(2000, summarize);

function throttled(pause, call) {
  let waiting = null, last = 0;
  return () => {
    waiting ??= setTimeout(() => {
      waiting = null;
      const began = performance.now();
      call();
      // A machine that takes long to draw is drawn less often.
      last = Date.now() + 4 * (performance.now() - began);
    }, Math.max(0, last + pause - Date.now()));
  };
}

function placeAll() {
  map.take(lay(machine.names, map.aspect), shownStates());
  map.selected = machine.index.get(current) ?? -1;
  filter();
  refreshSoon();
}

function shownStates() {
  return past === null ? machine.states : machine.statesAt(past);
}

function tally(states) {
  const counts = [0, 0, 0, 0];
  for (const state of states) counts[state]++;
  return counts;
}

function filter() {
  const states = map.states;
  if (onlyState < 0 && !onlyNames) map.shown = null;
  else {
    map.shown = new Uint8Array(states.length);
    states.forEach((state, i) => {
      map.shown[i] = (onlyState < 0 || state === onlyState) && (!onlyNames || onlyNames(machine.names[i]));
    });
  }
  map.redraw();
}

function lookBack(time) {
  past = time;
  map.states = shownStates();
  document.body.classList.toggle("past", time !== null);
  find("now").disabled = time === null;
  if (time !== null) banner(`Looking back to ${new Date(time).toLocaleString()}. Esc returns to now.`);
  else banner(lostAt === null ? "" : `What you see is of ${timeOfDay(lostAt)}.`);
  filter();
  refreshSoon();
}

async function select(i) {
  map.select(i);
  const name = i < 0 ? "" : machine.names[i];
  current = name;
  find("why").hidden = !name;
  if (!name) return;
  announce(`${name}: ${STATES[map.states[i]] ?? "absent"}`);
  try {
    const answer = await get(`components/${encodeURIComponent(name)}`, ask);
    if (current === name) showWhy(find("why"), answer);
  } catch (error) {
    if (current === name) find("why").querySelector("div").textContent = visible(error.message);
  }
}

function showName(name) {
  const i = machine.index.get(name);
  if (i === undefined) showPart(name);
  else {
    map.zoomTo({ x: map.layout.x[i] - 6, y: map.layout.y[i] - 4, width: 13, height: 9 });
    select(i);
  }
}

function showPart(name) {
  const part = map.layout?.parts.find((each) => each.name === name);
  if (part) map.zoomTo(part);
  find("query").value = name === "s0" ? "" : name;
  search();
}

function hover(i, x, y) {
  const tip = find("tip");
  tip.hidden = i < 0;
  if (i < 0) return;
  tip.textContent = `${machine.names[i]}  ${STATES[map.states[i]]}`;
  const room = find("map").clientWidth;
  tip.style.left = `${Math.min(x + 14, room - tip.offsetWidth - 4)}px`;
  tip.style.top = `${Math.max(y - 30, 2)}px`;
}

async function search() {
  const text = find("query").value.trim(), query = ++queries;
  let names = null, failure = "";
  if (text) {
    names = matcher(text);
    if (!names) {
      find("found").textContent = "…";
      try {
        const answer = await get(`components?names=${encodeURIComponent(text)}`, ask);
        const found = new Set(answer.Components.map((each) => each.XName));
        names = (name) => found.has(name);
      } catch (error) {
        failure = error.message;
        names = () => false;
      }
      if (query !== queries) return;
    }
  }
  onlyNames = names;
  filter();
  const count = names ? machine.names.filter(names).length : 0;
  find("found").textContent = visible(failure || (names ? `${count.toLocaleString("en")} found` : ""));
}

function banner(text) {
  find("banner").textContent = visible(text);
  find("banner").hidden = !text;
}

function status(state, text) {
  find("status").dataset.state = state;
  find("status").textContent = text;
  refreshSoon();
}

function announce(text) {
  find("announcer").textContent = visible(text);
}

// What people do

function ask(reason) {
  ask.pending ??= new Promise((resolve) => {
    const dialog = find("ask");
    find("refusal").textContent = visible(`hbtd says: ${reason}.`);
    find("token").value = "";
    dialog.addEventListener("close", () => {
      ask.pending = null;
      resolve(find("token").value.trim());
      find("token").value = "";
    }, { once: true });
    dialog.showModal();
  });
  return ask.pending;
}

function only(state) {
  onlyState = onlyState === state ? -1 : state;
  chips.forEach((chip, k) => chip.setAttribute("aria-pressed", String(k === onlyState)));
  filter();
}

function outline() {
  const shown = find("outline").hidden;
  find("outline").hidden = !shown;
  find("outline-button").setAttribute("aria-pressed", String(shown));
  refreshSoon();
}

function theme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  setTheme((document.documentElement.dataset.theme ?? system) === "dark" ? "light" : "dark");
  localStorage.setItem("hbtd-theme", document.documentElement.dataset.theme);
}

function setTheme(name) {
  if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
  map.resize();
  strip.draw();
}

function escape() {
  if (past !== null) strip.go(null);
  else if (onlyNames || find("query").value) {
    find("query").value = "";
    search();
  } else if (onlyState >= 0) only(onlyState);
  else select(-1);
  find("canvas").focus();
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ACTIONS = {
  "/": () => find("query").focus(),
  "?": () => find("help").showModal(),
  1: () => only(0),
  2: () => only(1),
  3: () => only(2),
  "+": () => map.zoom(1.4),
  "=": () => map.zoom(1.4),
  "-": () => map.zoom(1 / 1.4),
  f: () => map.fit(),
  l: outline,
  t: theme,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    escape();
    event.preventDefault();
    return;
  }
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const arrow = event.target === find("canvas") || event.target === document.body ? ARROWS[event.key] : null;
  if (arrow && machine.names.length) {
    move(...arrow);
    event.preventDefault();
  } else if (event.key === "Enter" && event.target === find("canvas")) select(map.selected);
  else if (ACTIONS[event.key]) {
    ACTIONS[event.key]();
    event.preventDefault();
  }
});

function move(dx, dy) {
  const i = map.selected < 0 ? Math.max(map.states.findIndex((state) => state === DEAD || state === WARNED), 0) : map.next(map.selected, dx, dy);
  map.select(i);
  current = machine.names[i];
  announce(`${current}: ${STATES[map.states[i]] ?? "absent"}`);
}

chips.forEach((chip, state) => chip.addEventListener("click", () => only(state)));
find("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
  const first = machine.names.findIndex((name, i) => map.shown?.[i] && map.states[i] !== ABSENT);
  const text = find("query").value.trim();
  const part = map.layout?.parts.find((each) => each.name === text);
  if (part) map.zoomTo(part);
  else if (first >= 0 && onlyNames) map.select(first);
  if (first >= 0 && within(machine.names[first], text) && machine.names[first] === text) select(first);
  find("canvas").focus();
});
find("query").addEventListener("input", () => search());
find("zoom-in").addEventListener("click", () => map.zoom(1.4));
find("zoom-out").addEventListener("click", () => map.zoom(1 / 1.4));
find("fit").addEventListener("click", () => map.fit());
find("outline-button").addEventListener("click", outline);
find("theme").addEventListener("click", theme);
find("help-button").addEventListener("click", () => find("help").showModal());
find("why").querySelector(".close").addEventListener("click", () => select(-1));
find("now").addEventListener("click", () => strip.go(null));
find("span").addEventListener("change", () => {
  strip.span = Number(find("span").value) * 1000;
  strip.go(null);
  recall();
});
new ResizeObserver(() => {
  map.resize();
  // Where there is more room, cabinets are on other rows.
  if (machine.names.length && map.fitted) map.take(lay(machine.names, map.aspect), map.states);
  strip.draw();
}).observe(find("map"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(""));

document.body.classList.toggle("wallboard", new URLSearchParams(location.search).has("wallboard"));
setTheme(localStorage.getItem("hbtd-theme"));
// For whoever looks at the page with a browser's console, and for tests.
window.hbtd = { feed, machine, map, strip };
setInterval(summarize, SUMMARY_EVERY);
setInterval(refreshSoon, 30_000);
setInterval(() => (find("clock").textContent = timeOfDay(Date.now())), 1000);
summarizeSoon();
feed.run();
recall();
