// Names of components: their places in the machine, their order, and sets of them.

const PLACE = /^(x\d+)(?:(c\d+)([rs]\d+)?)?/;

/** Return [cabinet, chassis, slot] of an xname, each as an xname; "" for what it is not in. */
export function place(name) {
  const found = PLACE.exec(name);
  if (!found) return ["", "", ""];
  const chassis = found[2] ? found[1] + found[2] : "";
  return [found[1], chassis, found[3] ? chassis + found[3] : ""];
}

/** Compare two names in natural order, x1000c0s2 before x1000c0s10. */
export function compare(a, b) {
  let i = 0, j = 0;
  while (i < a.length && j < b.length) {
    const x = a.charCodeAt(i), y = b.charCodeAt(j);
    if (isDigit(x) && isDigit(y)) {
      let m = i, n = j;
      while (isDigit(a.charCodeAt(m))) m++;
      while (isDigit(b.charCodeAt(n))) n++;
      const difference = Number(a.slice(i, m)) - Number(b.slice(j, n));
      if (difference) return difference;
      i = m;
      j = n;
    } else if (x !== y) return x - y;
    else {
      i++;
      j++;
    }
  }
  return a.length - i - (b.length - j);
}

/**
 * Return a function that says whether a name is in a set, such as x1000c[0-3]s*,x1000c7.
 *
 * An xname stands for all that is in it, * for any characters, and [1-4,7] for these numbers. For a
 * text that may mean something else, such as a NID or a host name, return null: hbtd knows those.
 */
export function matcher(text) {
  const tests = [];
  for (const word of splitOutsideBrackets(text.trim())) {
    if (!/^[xds][\d[*]/.test(word) || !/^[\w*[\],-]+$/.test(word)) return null;
    const pieces = word.split(/(\[[^\]]*\]|\*|\d+)/).filter(Boolean);
    const groups = [];
    let pattern = "^";
    for (const piece of pieces) {
      if (piece === "*") pattern += ".*?";
      else if (/^\d+$/.test(piece)) {
        groups.push([[Number(piece), Number(piece)]]);
        pattern += "(\\d+)";
      } else if (piece[0] === "[") {
        const ranges = piece.slice(1, -1).split(",").map((range) => /^(\d+)(?:-(\d+))?$/.exec(range));
        if (!ranges.every(Boolean)) return null;
        groups.push(ranges.map((range) => [Number(range[1]), Number(range[2] ?? range[1])]));
        pattern += "(\\d+)";
      } else if (/[[\]]/.test(piece)) return null;
      else pattern += piece;
    }
    const expression = new RegExp(pattern + "(?!\\d)");
    tests.push((name) => {
      const found = expression.exec(name);
      return found !== null
        && groups.every((ranges, i) => ranges.some(([low, high]) => low <= found[i + 1] && found[i + 1] <= high));
    });
  }
  return tests.length ? (name) => tests.some((test) => test(name)) : null;
}

/** Return names, in natural order, as a set that `matcher` understands: x1000c[0-1]s4b0n[0-3]. */
export function fold(names) {
  let boxes = names.map((name) => name.split(/(\d+)/));
  const longest = boxes.reduce((most, box) => Math.max(most, box.length), 0);
  // Along one number after another, the last one first, those that differ in this one only become one.
  for (let axis = longest - 1 - (longest % 2); axis > 0; axis -= 2) {
    const merged = new Map();
    for (const box of boxes) {
      const key = box.map((text, k) => (k === axis ? "" : text)).join("\0");
      if (merged.has(key)) merged.get(key).push(box[axis]);
      else merged.set(key, [box, box[axis]]);
    }
    boxes = [...merged.values()].map(([box, ...numbers]) => box.map((text, k) => (k === axis ? ranges(numbers) : text)));
  }
  return boxes.map((box) => box.join("")).join(",");
}

/** Return numbers, the least first, as [0-3,7]; one alone as it is. */
function ranges(numbers) {
  if (numbers.length < 2) return numbers[0];
  const found = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last && Number(number) === Number(last[1]) + 1) last[1] = number;
    else found.push([number, number]);
  }
  return `[${found.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(",")}]`;
}

/**
 * Return a text in which characters are escaped that can't be seen, or that change the order, and the
 * marks that pile up over a letter, from the third on.
 */
export function visible(text) {
  const escape = (some) => Array.from(some, (c) => `\\u{${c.codePointAt(0).toString(16)}}`).join("");
  return String(text)
    .replace(/[\p{C}\p{Zl}\p{Zp}\u115f\u1160\u2800\u3164\uffa0]/gu, escape)
    .replace(/(\p{M}{2})(\p{M}+)/gu, (_, first, more) => first + escape(more));
}

/** Return the words of a nodeset, between which there are commas or spaces. */
export function splitOutsideBrackets(text) {
  const words = [];
  let word = "", depth = 0;
  for (const c of text) {
    if (c === "[") depth++;
    if (c === "]") depth--;
    if (depth <= 0 && (c === "," || c === " ")) {
      if (word) words.push(word);
      word = "";
    } else word += c;
  }
  return word ? [...words, word] : words;
}

function isDigit(code) {
  return code >= 48 && code <= 57;
}
