// What the top of the page says: whether what is shown is live, of when it is, and what is wrong.

import { dateAndTime, lapse, local, now, timeOfDay } from "./clock.js";
import { find } from "./support.js";
import { visible } from "./xnames.js";

/** Milliseconds for which what was said aloud can be read again. */
const SAID = 10_000;

const components = (number) => `${number.toLocaleString("en")} component${number === 1 ? "" : "s"}`;

export class Header {
  constructor() {
    /** Whether the page is up to date: "" before it ever was, "live" or "stale". */
    this.state = "";
    /** Since when and for what reason it is not. */
    this.lost = null;
    /** Why hbtd gives no data without a token. */
    this.refused = "";
    /** The moment that is shown, null for now. */
    this.past = null;
    this.title = "hbtd";
    this.tick();
  }

  get text() {
    if (this.state !== "stale") return this.state || "connecting";
    return this.refused ? "no access" : "connecting again";
  }

  /** hbtd is heard. */
  live() {
    this.lost = null;
    this.state = "live";
    this.show();
  }

  /** hbtd is not heard since a time. */
  lose(reason, since) {
    // If hbtd was never heard there is nothing to be seen.
    if (!this.lost) this.lost = { since: this.state === "live" ? since : null };
    this.lost.reason = reason;
    this.state = "stale";
    this.show();
  }

  /** Say what holds. */
  show() {
    const { past } = this, status = find("status");
    const text = past === null ? this.text : `${local(past)}, ${lapse((now() - past) / 1000)} ago`;
    status.dataset.state = past === null ? this.state : "past";
    // That time goes by is no news.
    status.setAttribute("aria-live", past === null ? "polite" : "off");
    if (status.textContent !== text) status.textContent = text;
    find("clock").textContent = `${past === null ? "" : "now "}${timeOfDay(now())}`;
    this.showBanner();
  }

  showBanner() {
    const { lost, refused, past } = this, parts = [];
    if (lost && !refused) parts.push(`${lost.since === null ? "There is nothing to be seen yet" : `What you see is of ${timeOfDay(lost.since)}`}: ${lost.reason}. Connecting again …`);
    if (refused) parts.push(`${lost ? "" : "Not all is up to date: "}hbtd says: ${refused}.`);
    if (past !== null) parts.push(`Looking back to ${dateAndTime(past)}. The button Now, or Esc, returns.`);
    document.body.classList.toggle("past", past !== null);
    document.body.classList.toggle("stale", lost !== null || refused !== "");
    const text = visible(parts.join(" "));
    if (find("trouble").textContent !== text) find("trouble").textContent = text;
    find("give").hidden = !refused;
    find("banner").hidden = !text;
  }

  /** Say what HSM's table was wrong about when it was last compared, as /summary has it, and who is absent. */
  showTable(found, absent) {
    const line = find("table"), parts = [];
    if (found?.Wrong) {
      parts.push(`HSM's table was wrong about ${components(found.Wrong)} at ${local(Date.parse(found.At))}`);
      if (found.Contested) parts.push(`${found.Contested} contested: somebody else writes them`);
      if (found.Held) parts.push(`${found.Held} dead and held: too many to be told without hbtctl reconcile`);
    }
    if (absent) parts.push(`${absent} absent: On or Ready in HSM's table, and never heard (hbtctl absent)`);
    line.hidden = !parts.length;
    if (line.hidden) return;
    const text = parts.join("; ");
    if (line.textContent !== text) line.textContent = text;
  }

  /** Say which failure domains are disrupted, as /summary has them; nothing if none are. */
  showDisruptions(found) {
    const line = find("disruptions");
    line.hidden = !found?.length;
    if (line.hidden) return;
    const [first] = found, parts = [`${first.Text}, since ${local(Date.parse(first.At))}`];
    if (first.HeldUntil) parts.push(`deaths in it wait until ${local(Date.parse(first.HeldUntil))} at most`);
    if (found.length > 1) parts.push(`${found.length - 1} more disrupted`);
    const text = `${visible(parts.join("; "))} (hbtctl guard)`;
    if (line.textContent !== text) line.textContent = text;
  }

  /** Say what is in maintenance, as /summary has it. */
  showMaintenance(found) {
    const line = find("maintenance");
    line.hidden = !found;
    if (!found) return;
    const away = found.Away ? `; ${components(found.Away)} away, and expected back` : "";
    const text = `In maintenance: ${components(found.Components)}, ${found.Silent.toLocaleString("en")} silent, which is no alarm${away}`;
    if (line.textContent !== text) line.textContent = text;
  }

  /** Name the page by what is silent; `when` says of when that is. */
  showTitle(dead, warned, when = "", live = this.lost === null) {
    this.title = dead + warned || when ? `${when}${dead} dead, ${warned} warned – hbtd` : "hbtd";
    this.markTitle(live);
  }

  /** Say in the title, which is all that is seen of a tab, whether it is up to date. */
  markTitle(live) {
    document.title = live ? this.title : `(not live) ${this.title}`;
  }

  /** Say something to whoever listens rather than looks. */
  announce(text) {
    find("announcer").textContent = visible(text);
    clearTimeout(this.silence);
    // Whoever comes to it later would take it for what is.
    this.silence = setTimeout(() => (find("announcer").textContent = ""), SAID);
  }

  /** Show the time, and how long ago that is what is shown: with each second, as it begins. */
  tick() {
    this.show();
    setTimeout(() => this.tick(), 1000 - (now() % 1000));
  }
}
