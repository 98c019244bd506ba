// What time it is for hbtd: the clock of whoever looks may be wrong.

/** Milliseconds by which the difference of two clocks may seem to vary: an answer may take so long. */
const TOLERATED = 2000;
const UNITS = { s: 1000, m: 60_000, h: 3600_000, d: 86_400_000 };
let ahead = 0;

/** Return the time in milliseconds since 1970, by hbtd's clock. */
export function now() {
  return Date.now() + ahead;
}

/** Take over hbtd's time, as an answer has it. */
export function hear(time) {
  const difference = Date.parse(time) - Date.now();
  if (Number.isNaN(difference)) return;
  // It is later for hbtd than an answer says, never earlier: no time that hbtd tells is in the future.
  ahead = Math.abs(difference - ahead) > TOLERATED ? difference : Math.max(difference, ahead);
}

/** Return the local time of day of a time in milliseconds since 1970. */
export function timeOfDay(time) {
  const date = new Date(time);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}

/** Return local date and time. */
export function dateAndTime(time) {
  const date = new Date(time), day = [date.getFullYear(), date.getMonth() + 1, date.getDate()];
  return `${day.map((n) => String(n).padStart(2, "0")).join("-")} ${timeOfDay(time)}`;
}

/** Return the local time of day, with the date unless it is today's. */
export function local(time) {
  const today = dateAndTime(now()).slice(0, 10);
  const text = dateAndTime(time);
  return text.startsWith(today) ? text.slice(11) : text;
}

/** Return how long so many seconds are, for people. */
export function lapse(seconds) {
  if (seconds < 90) return `${Math.floor(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

/** Return the milliseconds that a text such as 90s, 2m, 1h, 30d or 0 stands for; NaN for any other text. */
export function readLapse(text) {
  const found = /^(?:0|(\d{1,9}(?:\.\d+)?)\s*([smhd]))$/.exec(text);
  return !found ? NaN : found[1] ? Number(found[1]) * UNITS[found[2]] : 0;
}

/**
 * Return the time that a text stands for: 18:43, 18:43:10, 2026-03-04 18:43, or -90s, -2m, -1h, -1d; null
 * for now, undefined for any other text. A time of day is today's, or yesterday's if it is yet to come.
 */
export function readTime(text, present) {
  const words = text.trim().toLowerCase();
  if (!words || words === "now") return null;
  const ago = /^-?\s*(\d{1,9}(?:\.\d+)?)\s*([smhd])[a-z]*(?: ago)?$/.exec(words);
  if (ago) return present - Number(ago[1]) * UNITS[ago[2]];
  const found = /^(?:(\d{4})-(\d\d?)-(\d\d?)[ t]+)?(\d\d?):(\d\d)(?::(\d\d))?$/.exec(words);
  if (!found) return undefined;
  const [year, month, day, hour, minute, second] = found.slice(1).map((each) => Number(each ?? 0));
  if (hour > 23 || minute > 59 || second > 59) return undefined;
  const date = new Date(present);
  const dated = found[1] !== undefined;
  if (dated) date.setFullYear(year, month - 1, day);
  if (dated && (date.getMonth() !== month - 1 || date.getDate() !== day)) return undefined;
  date.setHours(hour, minute, second, 0);
  if (!dated && date.getTime() > present + UNITS.m) date.setDate(date.getDate() - 1);
  return date.getTime();
}

/**
 * Return the times between two others at which the local time of day is a multiple of `step`
 * milliseconds, also where summer time begins or ends in between.
 */
export function ticks(begin, end, step) {
  // The local times of all zones differ by quarters of an hour.
  const found = [], grid = Math.min(step, 15 * UNITS.m);
  for (let t = Math.ceil(begin / grid) * grid; t < end; t += grid) {
    const date = new Date(t), ofDay = ((date.getHours() * 60 + date.getMinutes()) * 60 + date.getSeconds()) * 1000;
    if (ofDay % Math.min(step, UNITS.d) === 0) found.push(t);
  }
  return found;
}
