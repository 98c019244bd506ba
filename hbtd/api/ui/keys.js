// The keys of the page. The help and docs/operations.md list them.

/** Where keys are text. A list of choices keeps arrows, Enter and the space bar; the others are the page's. */
const TYPED = /^(INPUT|TEXTAREA)$/;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Listen to keys: `actions` has a function for each; `escape()` is called for Esc, and on the map
 * `move(dx, dy)` for arrows and `enter()` for Enter.
 */
export function listenToKeys(canvas, { actions, escape, move, enter }) {
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const arrow = target === canvas || target === document.body ? ARROWS[key] : null;
    if (key === "Escape") escape();
    else if (TYPED.test(target.tagName)) return;
    else if (arrow) move(...arrow);
    else if (key === "Enter" && target === canvas) enter();
    else if (Object.hasOwn(actions, key)) actions[key]();
    else return;
    event.preventDefault();
  });
}
