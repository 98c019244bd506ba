// The page: connects what hbtd says with the map, the panels and the keys.

import { asker, keep } from "./access.js";
import { dateAndTime, hear, now, timeOfDay } from "./clock.js";
import { Feed, get, Refused } from "./feed.js";
import { lay } from "./layout.js";
import { ABSENT, DEAD, Machine, STATES, WARNED } from "./machine.js";
import { Map2D } from "./map.js";
import { showOutline } from "./outline.js";
import { showChanges, showName, showSilent, showWhy } from "./panels.js";
import { Search } from "./search.js";
import { Strip } from "./strip.js";
import { stored, throttled } from "./support.js";
import { visible, within } from "./xnames.js";

/** Milliseconds between two summaries, between two drawings of the panels, and before newcomers get places. */
const SUMMARY_EVERY = 5000, PANELS_EVERY = 250, ADMIT_EVERY = 300;
/** The most pages of the history that are read to look back. */
const MOST_PAGES = 20;

const find = (id) => document.getElementById(id);
const machine = new Machine();
const map = new Map2D(find("canvas"), { onSelect: select, onHover: hover });
const strip = new Strip(find("strip"), machine, lookBack);
const chips = [...document.querySelectorAll("#counters button")];
const askForToken = asker(find("ask"));
const wishes = [];
let onlyState = -1, onlyNames = null, past = null, current = "", lost = null, refused = "", doubted = -1, tellsHSM;

// What hbtd says

const feed = new Feed({
  ask,
  wish: () => new Promise((resolve) => wishes.push(resolve)),
  picture(picture, anew) {
    hear(picture.At);
    machine.take(picture, anew);
    placeAll();
    if (anew) recall();
  },
  entries(entries) {
    for (const entry of entries) {
      const i = machine.apply(entry);
      if (i >= 0 && past === null) map.touch(i);
      if (entry.XName === current) explainSoon();
    }
    if (machine.newcomers.size) admitSoon();
    if (onlyState >= 0) filterSoon();
    refreshSoon();
    summarizeSoon();
  },
  live() {
    if (!lost && find("status").dataset.state === "live") return;
    lost = null;
    status("live", "live");
    showBanner();
  },
  lost(reason, since) {
    // If hbtd was never heard there is nothing to be seen.
    if (!lost) lost = { since: find("status").dataset.state === "live" ? since : null };
    lost.reason = reason;
    status("stale", refused ? "no access" : "connecting again");
    showBanner();
  },
});

/** Ask for a token; without one, ask no more until somebody wishes to give one. */
async function ask(reason) {
  const given = await askForToken(reason);
  if (given) grant();
  else {
    refused = reason;
    showBanner();
  }
  return given;
}

function grant() {
  refused = "";
  for (const resolve of wishes.splice(0)) resolve();
  showBanner();
}

async function summarize() {
  // A tab that nobody sees still has its title.
  if (refused || (lost && !feed.resting)) return;
  try {
    const summary = await get("summary", ask);
    hear(summary.At);
    const { healthy, warned, dead, total } = summary.Counts;
    if (feed.resting) {
      showTitle(dead, warned);
      return;
    }
    const [a, b, c] = machine.counts, differs = a !== healthy || b !== warned || c !== dead;
    // What was forgotten is in no event. Whatever else stays different would be so for ever.
    const gone = total < a + b + c + machine.newcomers.size;
    if (!lost && (gone || (differs && doubted === machine.number))) await feed.refresh();
    doubted = differs ? machine.number : -1;
    tellsHSM ??= (await get("params", ask)).Nosm !== "1";
    showSilent(find("silent").querySelector("ul"), summary, tellsHSM, showPart);
    if (current) explain();
  } catch {
    // The feed says what is wrong.
  }
}

async function recall() {
  const since = now() - strip.span, { era } = machine;
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
    if (era !== machine.era) return; // another one is on its way
    machine.recall(entries, next ? Date.parse(entries.at(-1).At) : since);
    if (machine.newcomers.size) admitSoon();
    map.states = shownStates();
    filter();
    refreshSoon();
  } catch (error) {
    if (!(error instanceof Refused)) announce(`The history can't be read: ${error.message}`);
  }
}

// What is shown

const admitSoon = throttled(ADMIT_EVERY, () => machine.admit() && placeAll());
const refreshSoon = throttled(PANELS_EVERY, () => {
  const states = shownStates();
  const counts = past === null ? machine.counts : tally(states);
  chips.forEach((chip, state) => (chip.querySelector("b").textContent = counts[state].toLocaleString("en")));
  find("empty").hidden = machine.names.length > 0 || find("status").dataset.state !== "live";
  showTitle(machine.counts[DEAD], machine.counts[WARNED]);
  showChanges(find("changes").querySelector("ol"), machine.changes, past ?? Infinity, goTo);
  if (!find("outline").hidden) showOutline(find("outline"), map.layout, machine.names, states, goTo);
  strip.draw();
});
const filterSoon = throttled(PANELS_EVERY, filter);
const explainSoon = throttled(PANELS_EVERY, () => explain(true));
const summarizeSoon = throttled(2000, summarize);

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
  showBanner();
  filter();
  refreshSoon();
}

function select(i) {
  map.select(i);
  current = i < 0 ? "" : machine.names[i];
  find("why").hidden = !current;
  if (!current) return;
  showName(find("why"), current, STATES[map.states[i]]);
  find("why").querySelector("div").textContent = "…";
  explain(true);
}

/** Say why the selected component is in its state, aloud where that is news. */
async function explain(aloud = false) {
  const name = current;
  if (!name || find("why").hidden) return;
  try {
    const answer = await get(`components/${encodeURIComponent(name)}`, ask);
    if (current !== name) return;
    showWhy(find("why"), answer);
    if (aloud) announce(`${name}: ${answer.State}. ${answer.Why?.Text ?? ""}`);
  } catch (error) {
    if (current !== name) return;
    find("why").querySelector("div").textContent = visible(error.message);
    if (aloud) announce(`${name}: ${error.message}`);
  }
}

function goTo(name) {
  const i = machine.index.get(name);
  if (i === undefined) showPart(name);
  else {
    if (!find("outline").hidden) outline();
    map.zoomTo({ x: map.layout.x[i] - 6, y: map.layout.y[i] - 4, width: 13, height: 9 });
    select(i);
  }
}

function showPart(name) {
  const part = map.layout?.parts.find((each) => each.name === name);
  if (part) map.zoomTo(part);
  find("query").value = name === "s0" ? "" : name;
  search.run();
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

function showBanner() {
  const parts = [];
  if (lost && !refused) parts.push(`${lost.since === null ? "There is nothing to be seen yet" : `What you see is of ${timeOfDay(lost.since)}`}: ${lost.reason}. Connecting again …`);
  if (refused) parts.push(`${lost ? "" : "Not all is up to date: "}hbtd says: ${refused}.`);
  if (past !== null) parts.push(`Looking back to ${dateAndTime(past)}. Esc returns to now.`);
  document.body.classList.toggle("stale", lost !== null || refused !== "");
  const text = visible(parts.join(" "));
  if (find("trouble").textContent !== text) find("trouble").textContent = text;
  find("give").hidden = !refused;
  find("banner").hidden = !text;
}

function showTitle(dead, quiet) {
  document.title = dead + quiet ? `${dead} dead, ${quiet} warned – hbtd` : "hbtd";
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
  stored((storage) => storage.setItem("hbtd-theme", document.documentElement.dataset.theme));
}

function setTheme(name) {
  if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
  map.resize();
  strip.draw();
}

function escape() {
  if (!find("outline").hidden) outline();
  else if (past !== null) strip.go(null);
  else if (onlyNames || find("query").value) {
    find("query").value = "";
    search.run();
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

const search = new Search(find("query"), find("found"), ask, (names) => {
  onlyNames = names;
  filter();
  return names ? machine.names.filter(names).length : 0;
});
chips.forEach((chip, state) => chip.addEventListener("click", () => only(state)));
find("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search.run();
  const first = machine.names.findIndex((name, i) => map.shown?.[i] && map.states[i] !== ABSENT);
  const text = find("query").value.trim();
  const part = map.layout?.parts.find((each) => each.name === text);
  if (part) map.zoomTo(part);
  else if (first >= 0 && onlyNames) map.select(first);
  if (first >= 0 && within(machine.names[first], text) && machine.names[first] === text) select(first);
  find("canvas").focus();
});
find("zoom-in").addEventListener("click", () => map.zoom(1.4));
find("zoom-out").addEventListener("click", () => map.zoom(1 / 1.4));
find("fit").addEventListener("click", () => map.fit());
find("outline-button").addEventListener("click", outline);
find("theme").addEventListener("click", theme);
find("help-button").addEventListener("click", () => find("help").showModal());
find("why").querySelector(".close").addEventListener("click", () => select(-1));
find("now").addEventListener("click", () => strip.go(null));
find("give").addEventListener("click", () => askForToken(refused).then((given) => {
  if (!given) return;
  keep(given);
  grant();
}));
// What was pressed held its list up.
document.addEventListener("pointerup", refreshSoon);
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
setTheme(stored((storage) => storage.getItem("hbtd-theme")));
// For whoever looks at the page with a browser's console, and for tests.
window.hbtd = { feed, machine, map, strip };
setInterval(summarize, SUMMARY_EVERY);
setInterval(refreshSoon, 30_000);
setInterval(() => (find("clock").textContent = timeOfDay(now())), 1000);
summarizeSoon();
feed.run();
