// The page: connects what hbtd says with the map, the panels and the keys.

import { asker, keep } from "./access.js";
import { hear, local, now } from "./clock.js";
import { Feed, get, Refused } from "./feed.js";
import { Going } from "./going.js";
import { Header } from "./header.js";
import { listenToKeys } from "./keys.js";
import { lay } from "./layout.js";
import { ABSENT, allFrom, DEAD, Machine, STATES, tally, WARNED } from "./machine.js";
import { Maintenance } from "./maintenance.js";
import { Map2D } from "./map.js";
import { showOutline } from "./outline.js";
import { nothingBefore, rove, showChanges, showSilent, showTip } from "./panels.js";
import { Search } from "./search.js";
import { Strip } from "./strip.js";
import { find, stored, throttled } from "./support.js";
import { Told } from "./told.js";
import { Why } from "./why.js";
import { matcher } from "./xnames.js";

/** Milliseconds between two summaries, between two drawings of the panels, and before newcomers get places. */
const SUMMARY_EVERY = 5000, PANELS_EVERY = 250, ADMIT_EVERY = 300;
/** Milliseconds for which what is silent keeps its place under a pointer that rests. */
const HELD = 5000;
/** The most pages of the history that are read to look back, and how far back they are read at least. */
const MOST_PAGES = 20, LEAST_RECALLED = 6 * 3600_000;
const NONE = new Uint8Array(0);

const header = new Header();
const machine = new Machine();
const map = new Map2D(find("canvas"), { onSelect: select, onHover: hover });
const strip = new Strip(find("strip"), machine, lookBack);
const going = new Going(strip, async () => {
  if (now() - strip.span < machine.knownSince && strip.span > LEAST_RECALLED) await recall();
});
const chips = [...document.querySelectorAll("#counters button")];
const askForToken = asker(find("ask"));
const why = new Why(find("why"), machine, ask, (text) => header.announce(text));
const told = new Told();
const maintenance = new Maintenance();
const wishes = [];
let onlyState = -1, onlyNames = null, past = null, current = "", doubted = -1;
let lone = [], heldUntil = 0, letGo, led = false, params = null, disrupted = new Set();

// What hbtd says

const feed = new Feed({
  ask,
  wish: () => new Promise((resolve) => wishes.push(resolve)),
  picture(picture, anew) {
    hear(picture.At);
    if (anew) params = null; // hbtd may have been started with others
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
    if (header.state === "live") return;
    header.live();
    refreshSoon();
  },
  lost(reason, since) {
    header.lose(reason, since);
    refreshSoon();
  },
});

/** Ask for a token; without one, ask no more until somebody wishes to give one. */
async function ask(reason) {
  if (feed.resting) header.markTitle(false);
  const given = await askForToken(reason);
  if (given) grant();
  else {
    header.refused = reason;
    header.show();
  }
  return given;
}

function grant() {
  header.refused = "";
  for (const resolve of wishes.splice(0)) resolve();
  header.show();
}

async function summarize() {
  // A tab that nobody sees still has its title.
  if (header.refused || (header.lost && !feed.resting)) return;
  try {
    const said = await get("summary", ask);
    hear(said.At);
    header.showTable(said.HSM.Table, said.HSM.Absent);
    header.showDisruptions(said.Disruptions);
    disrupted = new Set(said.Disruptions?.map((each) => each.Domain));
    frame();
    header.showMaintenance(said.Maintenance);
    const { healthy, warned, dead, total } = said.Counts;
    if (feed.resting) {
      header.showTitle(dead, warned, past === null ? "" : "now ", true);
      return;
    }
    const [a, b, c] = machine.counts, differs = a !== healthy || b !== warned || c !== dead;
    // What was forgotten is in no event. Whatever else stays different would be so for ever.
    const gone = total < a + b + c + machine.newcomers.size;
    const others = !header.lost && maintenance.isDue(said.Maintenance, performance.now());
    if (!header.lost && (gone || others || (differs && doubted === machine.number))) await feed.refresh();
    doubted = differs ? machine.number : -1;
    params ??= await get("params", ask);
    await told.take(said, params.Nosm === "0" ? lone : [], ask);
    refreshSoon();
    if (past === null) why.explain();
  } catch {
    // The feed says what is wrong, unless nobody sees the page.
    if (feed.resting) header.markTitle(false);
  }
}

async function recall() {
  const since = now() - Math.max(strip.span, LEAST_RECALLED), { era } = machine;
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
    params ??= await get("params", ask);
    if (era !== machine.era) return; // another one is on its way
    machine.recall(entries, next ? Date.parse(entries.at(-1).At) : allFrom(entries, since, params, now()));
    if (machine.newcomers.size) admitSoon();
    showStates();
    filter();
    refreshSoon();
  } catch (error) {
    if (!(error instanceof Refused)) header.announce(`The history can't be read: ${error.message}`);
  }
}

// What is shown

const admitSoon = throttled(ADMIT_EVERY, () => machine.admit() && placeAll());
const refreshSoon = throttled(PANELS_EVERY, () => {
  const states = shownStates();
  const counts = past === null ? machine.counts : tally(states);
  // Before the first record nothing is known, which is not that nothing was wrong.
  const unknown = past !== null && machine.names.length > 0 && counts[ABSENT] === states.length;
  chips.forEach((chip, state) => (chip.querySelector("b").textContent = unknown ? "–" : counts[state].toLocaleString("en")));
  find("empty").hidden = !unknown && (machine.names.length > 0 || header.state !== "live");
  find("empty").textContent = unknown ? nothingBefore(machine) : "No component has sent a heartbeat yet.";
  if (!feed.resting) header.showTitle(counts[DEAD], counts[WARNED], past === null ? "" : unknown ? `${local(past)}, not recorded: ` : `${local(past)}: `);
  find("silent").querySelector("h2").textContent = past === null ? "Silent" : `Silent at ${local(past)}`;
  const held = performance.now() < heldUntil, list = find("silent").querySelector("ul");
  const found = showSilent(list, { machine, layout: map.layout, states, time: past, told: params?.Nosm === "0" ? told : null, held }, showPart);
  if (past === null) lone = found;
  find("changes").querySelector("h2").textContent = past === null ? "Recent changes" : `Changes until ${local(past)}`;
  showChanges(find("changes").querySelector("ol"), machine.changes, past ?? Infinity, goTo);
  if (!find("outline").hidden) showOutline(find("outline"), map.layout, machine.names, states, goTo);
  strip.draw();
});
const letGoSoon = throttled(PANELS_EVERY, () => {
  clearTimeout(letGo);
  letGo = setTimeout(refreshSoon, HELD);
});
const filterSoon = throttled(PANELS_EVERY, filter);
const explainSoon = throttled(PANELS_EVERY, () => why.explain(past === null));
const summarizeSoon = throttled(2000, summarize);

function placeAll() {
  showStates();
  map.take(lay(machine.names, map.aspect), map.states);
  map.selected = machine.index.get(current) ?? -1;
  search.count(); // which filters
  refreshSoon();
}

function shownStates() {
  return past === null ? machine.states : machine.statesAt(past);
}

function showStates() {
  map.states = shownStates();
  // Who was silent in maintenance before is not recorded, nor is what was disrupted.
  map.spared = past === null ? machine.spared : NONE;
  frame();
}

/** Draw frames around what is disrupted now. */
function frame() {
  const shown = past === null ? [...disrupted] : [];
  if (shown.length === map.framed.size && shown.every((each) => map.framed.has(each))) return;
  map.framed = new Set(shown);
  map.redraw();
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
  if (time === null && past !== null) header.announce("Back to now.");
  past = header.past = time;
  going.show(time);
  showStates();
  find("now").disabled = time === null;
  why.look(stateOf(machine.index.get(current)), past);
  header.show();
  filter();
  refreshSoon();
}

/** Return the state that is shown of a component, undefined if it was not there. */
function stateOf(i) {
  return STATES[map.states[i]];
}

function select(i) {
  map.select(i);
  current = i < 0 ? "" : machine.names[i];
  why.select(current, stateOf(i), past);
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

function partCalled(name) {
  return map.layout?.parts.find((each) => each.name === name);
}

/** Show a part of the machine, or components, as large as possible, and dim the rest. */
function showPart(names) {
  const part = partCalled(names);
  const test = names === "s0" ? null : matcher(names);
  if (part) map.zoomTo(part);
  else if (!test) map.fit();
  else map.zoomTo(map.around(machine.names.flatMap((name, i) => (test(name) ? [i] : []))));
  led = true;
  find("query").value = names === "s0" ? "" : names;
  search.run();
}

function hover(i, x, y) {
  const state = map.isSpared(i) ? "silent in maintenance" : stateOf(i);
  showTip(find("tip"), i < 0 ? "" : `${machine.names[i]}  ${state}`, x, y, find("map").clientWidth);
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
  if (past !== null || document.activeElement === find("when")) {
    strip.go(null);
    if (!find("outline").hidden) return;
  } else if (!find("outline").hidden) outline();
  else if (onlyNames || find("query").value) {
    find("query").value = "";
    search.run();
    // It has led to where it was found.
    if (led) map.fit();
    led = false;
  } else if (onlyState >= 0) only(onlyState);
  else select(-1);
  find("canvas").focus();
}

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
  g: () => find("when").focus(),
  l: outline,
  t: theme,
};

listenToKeys(find("canvas"), { actions: ACTIONS, escape, move, enter: () => select(map.selected) });

function move(dx, dy) {
  const found = (i) => map.states[i] !== undefined && !map.isDim(i);
  if (!machine.names.some((_, i) => found(i))) return;
  // Those that are found, if there is a search or a filter, the silent ones first.
  const silent = map.states.findIndex((state, i) => (state === DEAD || state === WARNED) && found(i));
  const first = silent >= 0 && !onlyNames ? silent : map.states.findIndex((_, i) => found(i));
  const i = map.selected >= 0 && found(map.selected) ? map.next(map.selected, dx, dy) : first;
  if (why.open) select(i);
  else map.select(i);
  current = machine.names[i];
  header.announce(`${current}: ${stateOf(i) ?? "not tracked"}${past === null ? "" : ` at ${local(past)}`}`);
}

const search = new Search(find("query"), find("found"), ask, (names) => {
  const count = names ? machine.names.filter(names).length : 0;
  // Where nothing is found, nothing is dimmed.
  onlyNames = count ? names : null;
  // What was asked about before is something else.
  if (onlyNames && why.open && !onlyNames(current)) select(-1);
  filter();
  return count;
});
chips.forEach((chip, state) => chip.addEventListener("click", () => only(state)));
find("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search.run();
  const first = machine.names.findIndex((name, i) => map.shown?.[i] && map.states[i] !== ABSENT);
  const text = find("query").value.trim().toLowerCase();
  const part = partCalled(text);
  if (part) {
    map.zoomTo(part);
    led = true;
  } else if (first >= 0 && onlyNames) map.select(first);
  if (first >= 0 && machine.names[first] === text) select(first);
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
find("give").addEventListener("click", () => askForToken(header.refused).then((given) => {
  if (!given) return;
  keep(given);
  grant();
}));
// What was pressed held its list up.
document.addEventListener("pointerup", refreshSoon);
for (const list of document.querySelectorAll("#silent ul, #changes ol")) rove(list);
find("silent").addEventListener("pointermove", ({ pointerType }) => {
  if (pointerType !== "mouse") return;
  heldUntil = performance.now() + HELD;
  letGoSoon();
});
find("silent").addEventListener("pointerleave", () => {
  heldUntil = 0;
  refreshSoon();
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
window.hbtd = { feed, header, machine, map, strip, keys: Object.keys(ACTIONS) };
setInterval(summarize, SUMMARY_EVERY);
setInterval(refreshSoon, 30_000);
summarizeSoon();
feed.run();
