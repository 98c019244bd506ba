// The names on the map. They stay at the edge of what is in sight of their part.

/** The least width of what has a label, as a multiple of the label's size. */
const ROOM = 2.2;
/** The least size of the letters, and from the edge of the map to a label, in pixels. */
const LEAST_SIZE = 7, LEAST_SLOT_SIZE = 8, EDGE = 3;

/** Draw the names of the parts on a map; return whether one of them is where components are. */
export function drawLabels(map) {
  const { context, layout, view, colours } = map;
  context.textBaseline = "alphabetic";
  let over = false;
  const write = (text, x, y, most) => {
    context.fillStyle = colours.label;
    context.fillText(text, x, y, most);
  };
  const backed = (text, x, y, size) => {
    over = true;
    context.fillStyle = colours.ground;
    context.fillRect(x - EDGE, y - size, context.measureText(text).width + 2 * EDGE, size * 1.3);
    write(text, x, y);
  };
  for (const part of [layout.levels[2], layout.levels[1], layout.cabinets].flatMap((parts) => parts.filter((each) => map.inSight(each)))) {
    const box = boxOf(part, view);
    if (part.level === 0) drawCabinet(map, part, box, write, backed);
    else if (part.level === 1) drawChassis(map, part, box, write, backed);
    else drawSlot(map, part, box, write);
  }
  return over;
}

function boxOf(part, { scale, x, y }) {
  return { left: part.x * scale + x, top: part.y * scale + y, width: part.width * scale, height: part.height * scale };
}

function drawCabinet({ context, layout, view, labelSize }, part, { left, top, width, height }, write, backed) {
  const room = (layout.title + 1) * view.scale;
  // The name may reach into the gap before the next cabinet.
  const most = width + 1.6 * view.scale;
  const size = Math.min(Math.max(labelSize, view.scale * 0.9), 1.8 * labelSize, most / 3.2, room);
  if (size < LEAST_SIZE) return;
  context.font = `600 ${size}px system-ui, sans-serif`;
  // Above the names of the slots in the first row.
  const lift = slotSize(layout, view, labelSize) + Math.max(2, size / 5);
  const text = part.name || "others", y = top + layout.title * view.scale - lift;
  const long = context.measureText(text).width;
  const x = Math.max(left, Math.min(EDGE, left + width - long)), low = Math.max(y, Math.min(size + EDGE, top + height));
  if (x === left && low === y) write(text, x, y, most);
  else backed(text, x, low, size);
}

function drawChassis({ context, view, labelSize, height: bottom }, part, { left, top, width, height }, write, backed) {
  if (view.scale <= 9 || width <= labelSize * ROOM) return;
  const size = labelSize - 1, text = part.name.replace(/^x\d+/, "");
  context.font = `${size}px system-ui, sans-serif`;
  const long = context.measureText(text).width;
  // The middle of what is in sight, below the name of the cabinet at the edge.
  const first = Math.max(top, 2 * labelSize + EDGE), last = Math.min(top + height, bottom), x = Math.max(left - 4, Math.min(size + EDGE, left + width));
  const inSight = top >= 0 && top + height <= bottom, middle = inSight ? top + height / 2 : (first + last) / 2;
  if (!inSight && last - first < long) return;
  context.save();
  context.translate(x, middle);
  context.rotate(-Math.PI / 2);
  if (x === left - 4) write(text, -long / 2, 0);
  else backed(text, -long / 2, 0, size);
  context.restore();
}

/** Return the size of the letters of slots' names, 0 if there is no room for any. */
function slotSize({ gap }, { scale }, labelSize) {
  const size = Math.min(labelSize - 1, gap * scale - 3);
  return size < LEAST_SLOT_SIZE ? 0 : size;
}

/** Draw the name of a slot into the gap above it, if it is large enough. */
function drawSlot({ context, layout, view, labelSize }, part, { left, top, width }, write) {
  const size = slotSize(layout, view, labelSize), text = part.name.replace(/^x\d+c\d+/, "");
  if (!size) return;
  context.font = `${size}px system-ui, sans-serif`;
  if (context.measureText(text).width <= width) write(text, left, top - 2);
}
