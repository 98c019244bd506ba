// The token of whoever looks: asked for where hbtd wants one, and kept for this tab alone.

import { visible } from "./xnames.js";

const KEY = "hbtd-token";
/** What a header can have. */
const POSSIBLE = /^[\x21-\x7e]+( [\x21-\x7e]+)*$/;
// Browsers may be told to keep nothing: then it is kept for as long as the page is open.
let own = null;

/** Return the token that was given, null without one. */
export function token() {
  try {
    return own ?? sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** Keep a token. */
export function keep(given) {
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    own = given;
  }
}

/** Return a function that asks for a token in a dialog, once at a time; it returns "" if none is given. */
export function asker(dialog) {
  const input = dialog.querySelector("input");
  let pending = null;
  const answer = (reason) => new Promise((resolve) => {
    dialog.querySelector("p").textContent = visible(`hbtd says: ${reason}.`);
    input.value = dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      // Escape gives none, whatever was typed before.
      resolve(dialog.returnValue === "give" ? input.value.trim() : "");
      input.value = "";
    }, { once: true });
    dialog.showModal();
  });
  const ask = async (reason) => {
    let given = await answer(reason);
    while (given && !POSSIBLE.test(given)) given = await answer("no token has such characters");
    pending = null;
    return given;
  };
  return (reason) => (pending ??= ask(reason));
}
