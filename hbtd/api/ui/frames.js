// Frames around the parts of the machine that are disrupted failure domains.

/** The failure domain that is the whole machine. */
const SYSTEM = "s0";
/** From a part to the line around it, in squares; the width of the line, in pixels. */
const AWAY = 0.22, WIDTH = 2;

/**
 * Draw a frame around each part of a map whose name is in `map.framed`.
 *
 * A group of hbtd's option --groups is no part: the page's line about it has to do.
 */
export function drawFrames(map) {
  const { context, layout, view: { scale, x, y }, framed } = map;
  const parts = framed.has(SYSTEM) ? layout.cabinets : layout.parts.filter((each) => framed.has(each.name));
  context.strokeStyle = map.colours.warned;
  context.lineWidth = WIDTH;
  for (const part of parts) {
    if (!map.inSight(part)) continue;
    const left = (part.x - AWAY) * scale + x, top = (part.y - AWAY) * scale + y;
    context.strokeRect(map.snap(left), map.snap(top), (part.width + 2 * AWAY) * scale, (part.height + 2 * AWAY) * scale);
  }
}
