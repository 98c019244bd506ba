// What all parts of the page may need.

/** Return the element of the page with an id. */
export function find(id) {
  return document.getElementById(id);
}

/** Return a function that has another one called soon, but not more often than each `pause` milliseconds. */
export function throttled(pause, call) {
  let waiting = null, last = -Infinity;
  return () => {
    waiting ??= setTimeout(() => {
      waiting = null;
      const began = performance.now();
      call();
      // What takes long is done less often.
      last = performance.now() + 4 * (performance.now() - began);
    }, Math.max(0, last + pause - performance.now()));
  };
}

/** Return what a function of the storage returns; null if the browser was told to keep nothing. */
export function stored(use) {
  try {
    return use(localStorage);
  } catch {
    return null;
  }
}
