// What tests find out about the page: its longest task, its frames, when its map was first drawn,
// and where and how a component is drawn.

window.longest = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
}).observe({ type: "longtask", buffered: true });

window.frames = 0;
(function count() {
  window.frames++;
  requestAnimationFrame(count);
})();

const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (...given) {
  if (this.canvas.id === "canvas") window.firstMap ??= performance.now();
  return fillText.apply(this, given);
};

/** Return where in a component's square, as parts of its side, a point of the canvas is. */
function pointOf(name, part) {
  const { map, machine } = window.hbtd, { scale, x, y } = map.view, i = machine.index.get(name);
  return i === undefined ? null : [(map.layout.x[i] + part) * scale + x, (map.layout.y[i] + part) * scale + y];
}

/** Return "healthy", "warned" or "dead" as a component is drawn, "dim" or, without it, "". */
window.colourOf = (name) => {
  const { map } = window.hbtd, point = pointOf(name, 0.1);
  if (!point) return "";
  const pixel = map.context.getImageData(point[0] * map.ratio, point[1] * map.ratio, 1, 1).data;
  const seen = (colour) => {
    const parts = map.colours[colour].match(/\w\w/g).map((digits) => parseInt(digits, 16));
    return parts.every((part, k) => Math.abs(part - pixel[k]) < 6);
  };
  const found = ["healthy", "spared", "warned", "dead", "ground"].find(seen) ?? "dim";
  return found === "ground" ? "" : found;
};

/** Return whether there is the line of a frame on the left of a part of the machine. */
window.isFramed = (name) => {
  const { map } = window.hbtd, { scale, x, y } = map.view;
  const part = map.layout.parts.find((each) => each.name === name);
  const left = (part.x - 0.22) * scale + x, middle = (part.y + part.height / 2) * scale + y;
  const pixel = map.context.getImageData(left * map.ratio, middle * map.ratio, 1, 1).data;
  return map.colours.warned.match(/\w\w/g).every((digits, k) => Math.abs(parseInt(digits, 16) - pixel[k]) < 6);
};

/** Return where a component is on the page. */
window.placeOf = (name) => {
  const box = window.hbtd.map.canvas.getBoundingClientRect(), point = pointOf(name, 0.4);
  return [box.left + point[0], box.top + point[1]];
};
