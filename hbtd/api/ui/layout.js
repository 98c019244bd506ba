// Where everything is drawn, from the names alone. The unit is the side of a component's square.

import { place } from "./xnames.js";

const SLOT_GAP = 0.5, CHASSIS_GAP = 0.9, CABINET_GAP = 2.2;
const SLOTS_IN_A_ROW = 8;
/** Room above a cabinet for its name, and where many cabinets are small. */
const TITLE = 1.8, TITLE_OF_MANY = 3.6, MANY = 60;

/**
 * Return the layout of names in natural order: their positions x and y, the parts of the machine,
 * {name, level, start, end, x, y, width, height}, those with a name by level, and the size of the whole. `aspect` is width by
 * height of the room that there is.
 */
export function lay(names, aspect) {
  const groups = group(names);
  const x = new Float32Array(names.length), y = new Float32Array(names.length);
  const title = groups.length > MANY ? TITLE_OF_MANY : TITLE;
  for (const cabinet of groups) arrange(cabinet, title);
  const { width, height } = shelve(groups, aspect);
  const parts = [];
  for (const cabinet of groups) {
    parts.push(part(cabinet, 0, cabinet.x, cabinet.y));
    for (const chassis of cabinet.chassis) {
      const left = cabinet.x, top = cabinet.y + title + chassis.y;
      if (chassis.name) parts.push(part(chassis, 1, left, top));
      for (const slot of chassis.slots) {
        const slotLeft = left + slot.x, slotTop = top + slot.y;
        if (slot.name) parts.push(part(slot, 2, slotLeft, slotTop));
        for (let i = slot.start; i < slot.end; i++) {
          const k = i - slot.start;
          x[i] = slotLeft + (k % chassis.columns);
          y[i] = slotTop + Math.floor(k / chassis.columns);
        }
      }
    }
  }
  const cabinets = parts.filter((each) => each.level === 0);
  const levels = [0, 1, 2].map((level) => parts.filter((each) => each.level === level && each.name));
  return { x, y, parts, levels, width, height, title, gap: SLOT_GAP, cabinets };
}

function part({ name, start, end, width, height }, level, x, y) {
  return { name, level, start, end, x, y, width, height };
}

/** Return cabinets of chassis of slots, each with the positions of its components. */
function group(names) {
  const cabinets = [];
  let cabinet, chassis, slot;
  names.forEach((name, i) => {
    const [inCabinet, inChassis, inSlot] = place(name);
    if (cabinet?.name !== inCabinet) {
      cabinets.push((cabinet = { name: inCabinet, start: i, end: i, chassis: [] }));
      chassis = slot = undefined;
    }
    if (chassis?.name !== inChassis) {
      cabinet.chassis.push((chassis = { name: inChassis, start: i, end: i, slots: [] }));
      slot = undefined;
    }
    if (slot?.name !== inSlot) chassis.slots.push((slot = { name: inSlot, start: i, end: i }));
    cabinet.end = chassis.end = slot.end = i + 1;
  });
  return cabinets;
}

/** Give a cabinet and all in it their sizes, and the parts their positions within it. */
function arrange(cabinet, title) {
  let y = 0, width = 0;
  for (const chassis of cabinet.chassis) {
    const most = Math.max(...chassis.slots.map((slot) => slot.end - slot.start));
    const columns = (chassis.columns = columnsOf(most));
    const rows = Math.ceil(most / columns);
    chassis.slots.forEach((slot, k) => {
      slot.x = (k % SLOTS_IN_A_ROW) * (columns + SLOT_GAP);
      slot.y = Math.floor(k / SLOTS_IN_A_ROW) * (rows + SLOT_GAP);
      slot.width = columns;
      slot.height = rows;
    });
    const across = Math.min(chassis.slots.length, SLOTS_IN_A_ROW);
    const down = Math.ceil(chassis.slots.length / SLOTS_IN_A_ROW);
    chassis.width = across * (columns + SLOT_GAP) - SLOT_GAP;
    chassis.height = down * (rows + SLOT_GAP) - SLOT_GAP;
    chassis.y = y;
    y += chassis.height + CHASSIS_GAP;
    width = Math.max(width, chassis.width);
  }
  cabinet.width = Math.max(width, 4);
  cabinet.height = y - CHASSIS_GAP + title;
}

/** Return in how many columns so many components of a slot look best. */
function columnsOf(count) {
  const least = Math.ceil(Math.sqrt(count));
  for (let columns = least; columns <= 2 * Math.sqrt(count); columns++) {
    if (count % columns === 0) return columns;
  }
  return least;
}

/** Put the cabinets on rows so that all of them are as large as the room allows. */
function shelve(cabinets, aspect) {
  const total = cabinets.reduce((sum, each) => sum + each.width + CABINET_GAP, 0);
  const widest = Math.max(1, ...cabinets.map((each) => each.width));
  let best = { scale: 0, limit: total };
  for (let rows = 1; rows <= cabinets.length && rows <= 60; rows++) {
    const limit = Math.max(widest, total / rows);
    for (const room of [limit, limit + widest]) {
      const { width, height } = fill(cabinets, room);
      const scale = Math.min(aspect / width, 1 / height);
      if (scale > best.scale) best = { scale, limit: room };
    }
  }
  return fill(cabinets, best.limit);
}

function fill(cabinets, limit) {
  let x = 0, y = 0, row = 0, width = 0;
  for (const cabinet of cabinets) {
    if (x > 0 && x + cabinet.width > limit) {
      y += row + CABINET_GAP;
      x = row = 0;
    }
    cabinet.x = x;
    cabinet.y = y;
    x += cabinet.width + CABINET_GAP;
    row = Math.max(row, cabinet.height);
    width = Math.max(width, x - CABINET_GAP);
  }
  return { width: Math.max(width, 1), height: Math.max(y + row, 1) };
}
