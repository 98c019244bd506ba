// Why the selected component is in its state: now, or at the moment that is shown.

import { wordOf } from "./changes.js";
import { lapse, local } from "./clock.js";
import { get } from "./feed.js";
import { STATES } from "./machine.js";
import { element, keyOf, replace } from "./panels.js";
import { visible } from "./xnames.js";

const MOST_CHANGES = 8;

export class Why {
  /** Explain in a section of the page; `announce(text)` says something aloud. */
  constructor(section, machine, ask, announce) {
    Object.assign(this, { section, machine, ask, announce });
    this.name = "";
    this.forget();
  }

  /** What hbtd says of the component at present, or why it says nothing. */
  forget() {
    this.answer = null;
    this.failure = "";
  }

  get open() {
    return !this.section.hidden;
  }

  /** Show a component that is in this state at a time, null for now; without a name, show none. */
  select(name, state, time) {
    const other = name !== this.name;
    if (other) this.forget();
    Object.assign(this, { name, state, time });
    this.section.hidden = !name;
    if (!name) return;
    // Where the lists are longer than the screen it is seen from its begin on.
    if (other) this.section.scrollIntoView({ block: "nearest" });
    this.show();
    this.explain(true);
  }

  /** Show the same component at another moment. */
  look(state, time) {
    Object.assign(this, { state, time });
    if (this.open) this.show();
  }

  /** Ask hbtd; say aloud what it says where that is news. */
  async explain(aloud = false) {
    const { name } = this;
    if (!name || !this.open) return;
    try {
      const answer = await get(`components/${encodeURIComponent(name)}`, this.ask);
      if (name !== this.name) return;
      this.answer = answer;
      this.failure = "";
    } catch (error) {
      if (name !== this.name) return;
      this.failure = error.message;
    }
    const said = this.show();
    if (aloud) this.announce(said);
  }

  /** Draw the panel; return what it says, in short. */
  show() {
    const { name, answer, failure, time, state } = this;
    showName(this.section, name, time === null ? answer?.State ?? state : state);
    if (time !== null) return this.showThen();
    const body = this.section.querySelector("div");
    if (failure || !answer) {
      body.textContent = visible(failure || "…");
      return `${name}: ${failure}`;
    }
    replace(body, presentFacts(answer));
    return `${name}: ${answer.State}. ${answer.Why?.Text ?? ""}`;
  }

  /** Show what the log has up to the moment, and nothing that is known of the present only. */
  showThen() {
    const { name, answer, failure, time, state, machine } = this;
    const entries = new Map((answer?.Transitions ?? []).map((each) => [each.Number, { at: Date.parse(each.At), word: wordIn(each), why: each.Why }]));
    for (const change of machine.changesOf(name, time)) {
      entries.set(change.number, { at: change.at, word: wordOf(change.what, change.from), why: change.why });
    }
    const past = [...entries].sort(([a], [b]) => b - a).map(([, each]) => each).filter((each) => each.at <= time);
    const known = past.length > 0 || state === undefined;
    const facts = new Facts();
    facts.add(state ?? "not tracked", known ? past[0] && `since ${local(past[0].at)}` : `since before ${local(machine.knownSince)}`);
    facts.add("why", past[0]?.why);
    const changes = past.slice(0, MOST_CHANGES).map((each) => item(each.at, each.word, each.why));
    const label = element("p", { className: "moment", text: `as it was at ${local(time)}` });
    const parts = [label, facts.list, element("ol", {}, ...changes)];
    if (failure) parts.push(element("p", { text: `Now: ${failure}` }));
    replace(this.section.querySelector("div"), parts);
    return `${name}: ${state ?? "not tracked"} at ${local(time)}. ${past[0]?.why ?? ""}`;
  }
}

/** A list of facts, of which those without a value are left out. */
class Facts {
  constructor() {
    this.list = element("dl");
  }

  add(name, value) {
    if (value) this.list.append(element("dt", { text: name }), element("dd", { text: value }));
  }
}

/** Show of which component something will be said, and its state. */
function showName(section, name, state) {
  section.querySelector("h2").replaceChildren(keyOf(state), element("span", { text: name }));
}

/** Return what `/components/{name}` says of a component. */
function presentFacts(answer) {
  const facts = new Facts(), why = answer.Why;
  facts.add("type", answer.Type);
  facts.add("host name", answer.Hostname);
  facts.add("NID", answer.NID);
  facts.add(answer.State, answer.Since ? `since ${local(Date.parse(answer.Since))}${answer.State === "healthy" ? "" : ", when it was judged"}` : "");
  facts.add("why", why?.Text);
  if (answer.LastHeartbeat) {
    const ago = answer.Age === null ? "" : `, ${answer.Age < 90 ? `${answer.Age.toFixed(1)} s` : lapse(answer.Age)} ago`;
    facts.add("last heard", `${local(Date.parse(answer.LastHeartbeat))}${ago}${answer.Source ? ` from ${answer.Source}` : ""}`);
  }
  // Apart, so that a text from right to left leaves the other one where it is.
  facts.add("it said", answer.Status);
  facts.add("its time", answer.Timestamp);
  if (why?.MeanPeriod) facts.add("period", `${why.MeanPeriod.toFixed(2)} s ± ${(why.Deviation ?? 0).toFixed(2)} s, longest gap ${(why.LongestGap ?? 0).toFixed(1)} s`);
  if (why?.Warntime) facts.add("limits", `warned after ${why.Warntime} s of silence, dead after ${why.Errtime} s${why.Threshold ? `, by the threshold ${why.Threshold}` : ""}`);
  facts.add("later", why?.Delay);
  const { Maintenance } = answer;
  if (Maintenance) facts.add("maintenance", [Maintenance.Id, `until ${local(Date.parse(Maintenance.Until))}${Maintenance.Back ? " or back" : ""}`, Maintenance.Reason].filter(Boolean).join(", "));
  if (answer.HSM) facts.add("HSM", [answer.HSM.State, answer.HSM.At && local(Date.parse(answer.HSM.At)), answer.HSM.Reason].filter(Boolean).join(", "));
  const past = (answer.Transitions ?? []).slice(0, MOST_CHANGES);
  return [facts.list, element("ol", {}, ...past.map((each) => item(Date.parse(each.At), wordIn(each), each.Why)))];
}

function item(at, word, why) {
  return element("li", {}, element("time", { text: local(at) }), element("span", { text: `${word}: ${why}` }));
}

/** Return the word for an entry of the log. */
function wordIn(entry) {
  return wordOf(entry.Transition, STATES.indexOf(entry.From));
}
