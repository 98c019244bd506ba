// What time it is for hbtd: the clock of whoever looks may be wrong.

/** Milliseconds of difference that may be the way of an answer. */
const TOLERATED = 2000;
let ahead = 0;

/** Return the time in milliseconds since 1970, by hbtd's clock. */
export function now() {
  return Date.now() + ahead;
}

/** Take over hbtd's time, as an answer has it. */
export function hear(time) {
  const difference = Date.parse(time) - Date.now();
  if (!Number.isNaN(difference)) ahead = Math.abs(difference) > TOLERATED ? difference : 0;
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

/**
 * Return the times between two others at which the local time of day is a multiple of `step`
 * milliseconds, also where summer time begins or ends in between.
 */
export function ticks(begin, end, step) {
  // The local times of all zones differ by quarters of an hour.
  const found = [], grid = Math.min(step, 900_000), day = 86_400_000;
  for (let t = Math.ceil(begin / grid) * grid; t < end; t += grid) {
    const date = new Date(t), ofDay = ((date.getHours() * 60 + date.getMinutes()) * 60 + date.getSeconds()) * 1000;
    if (ofDay % Math.min(step, day) === 0) found.push(t);
  }
  return found;
}
