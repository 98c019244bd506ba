// Whether HSM was told of what is silent, as far as hbtd has said so.

import { local } from "./clock.js";
import { get } from "./feed.js";
import { fold } from "./xnames.js";

/** The most components about which hbtd is asked one by one: their names have to fit into an address. */
const MOST_ASKED = 200;

/** What hbtd has last said of HSM: the answer of /summary, and those of some components. */
export class Told {
  constructor() {
    this.summary = null;
    this.components = new Map();
  }

  /** Take a summary, and ask about components that are in none of its groups. */
  async take(summary, names, ask) {
    this.summary = summary;
    const some = names.slice(0, MOST_ASKED);
    const answer = some.length ? await get(`components?names=${encodeURIComponent(fold(some))}`, ask) : { Components: [] };
    this.components = new Map(answer.Components.map((each) => [each.XName, each]));
  }

  /**
   * Return what is to be said of a silent part of the machine, or of one in it, of which the last
   * component is silent since a time, undefined if that is not known. What hbtd said before that
   * time is not of all of them.
   */
  ofPart(name, since = -Infinity) {
    if (!this.summary) return "";
    const said = this.summary.Groups.find((each) => each.XName === name);
    if (!said && Date.parse(this.summary.At) > since) return "not known whether HSM was told";
    if (!said?.Told || Date.parse(said.Told) < since) return "HSM not told of all yet";
    return `HSM told ${local(Date.parse(said.Told))}`;
  }

  /** Return what is to be said of components, given since when each is silent, as far as that is known. */
  ofComponents(names, sinces) {
    if (!this.summary) return "";
    const said = names.slice(0, MOST_ASKED).map((name) => {
      const answer = this.components.get(name), since = sinces.get(name);
      return answer?.HSM && (since === undefined || Date.parse(answer.Since) >= since) ? answer.HSM : { State: "waiting" };
    });
    const count = (state) => said.filter((each) => each.State === state).length, one = names.length === 1;
    if (count("waiting")) return one ? "HSM not told yet" : "HSM not told of all yet";
    if (count("set aside")) return one ? "HSM rejects it" : `HSM rejects ${count("set aside")} of them`;
    if (count("contested")) return one ? "contested: HSM's table says otherwise" : `${count("contested")} of them contested in HSM's table`;
    if (count("told") < said.length) return `not known whether HSM was told${one ? "" : " of all"}`;
    const last = said.map((each) => (each.At ? Date.parse(each.At) : -Infinity)).reduce((a, b) => Math.max(a, b));
    const text = last > -Infinity ? `HSM told ${local(last)}` : "HSM told";
    return said.length < names.length ? `${text} of the first ${said.length}` : text;
  }
}
