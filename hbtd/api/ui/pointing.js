// The mouse, fingers and the wheel on the map.

/** Let a map be zoomed, moved and pointed at; `onSelect(i)` and `onHover(i, x, y)` are called as `Map2D` says. */
export function listenToPointers(map, onSelect, onHover) {
  const { canvas } = map, pointers = new Map();
  let moved = 0, rests = null;
  const hover = (x, y) => {
    rests = [x, y];
    onHover(map.at(x, y), x, y);
  };
  // What is under a pointer that rests may become something else.
  map.onDrawn = () => rests && hover(...rests);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    map.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    rests = null;
    pointers.set(event.pointerId, placeOf(event));
    moved = pointers.size > 1 ? Infinity : 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) {
      hover(event.offsetX, event.offsetY);
      return;
    }
    const dx = event.offsetX - last.x, dy = event.offsetY - last.y;
    if (pointers.size === 2) {
      const [other] = [...pointers.values()].filter((each) => each !== last);
      const before = Math.hypot(last.x - other.x, last.y - other.y);
      const now = Math.hypot(event.offsetX - other.x, event.offsetY - other.y);
      if (before > 0) map.zoom(now / before, (event.offsetX + other.x) / 2, (event.offsetY + other.y) / 2);
      map.move(dx / 2, dy / 2);
    } else {
      moved += Math.abs(dx) + Math.abs(dy);
      if (moved > 4) map.move(dx, dy);
    }
    pointers.set(event.pointerId, placeOf(event));
  });
  const end = (event) => {
    if (event.type === "pointerup") hover(event.offsetX, event.offsetY);
    if (pointers.delete(event.pointerId) && event.type === "pointerup" && moved <= 4) {
      onSelect(map.at(event.offsetX, event.offsetY));
    }
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => {
    rests = null;
    onHover(-1, 0, 0);
  });
}

/** Return where an event was; later its offsets may mean something else. */
function placeOf({ offsetX, offsetY }) {
  return { x: offsetX, y: offsetY };
}
