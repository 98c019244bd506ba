"""Nodesets: many names in one short text, such as `x1000c[0-7]s0b0n[0-1],x1001c0s0b0n0`.

The syntax is ClusterShell's, so that nodesets can be exchanged with the commands `clush` and
`nodeset`. Each number in a list in brackets makes one name: `[0-7]`, `[0,2,4]`, `[0-6/2]`,
`[001-064]`. Sets are joined by `,` or white space; from left to right, `!` subtracts a set, `&`
keeps the common names, and `^` keeps the names that are in only one of two sets. Node groups
(`@group`) and wildcards are refused, because their meaning depends on the configuration of a host.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import Final

_NUMBER: Final = re.compile("([0-9]+)")
_LONG_NUMBER: Final = re.compile("[0-9]{2,}")
_TOKEN: Final = re.compile(
    r"(?P<operator>\s*[,!&^]\s*|\s+)|(?P<term>(?:[^\s,!&^\[\]]+|\[[^\[\]]*\]?|\])+)"
)
_RANGE: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?:/([0-9]{1,9}))?)?")
_MEMBER: Final = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_PIECE: Final = re.compile(r"([A-Za-z0-9_.:-]*)\[([^\[\]]*)\]")

_LONGEST: Final = 65_536
_LONGEST_NAME: Final = 255
_MOST_LISTS: Final = 8
"""The most lists in brackets that one name may have; an xname has seven numbers at most."""

_MOST_COMBINED: Final = 10_000
"""The most names of a nodeset with `!`, `&` or `^`, which need all names at once in memory."""

_LONGEST_SHOWN: Final = 60
"""The most characters of a nodeset that an error repeats."""


class NodesetError(ValueError):
    """Raised when a text is not a nodeset, or has too many names; the message says why."""


def natural_key(name: str) -> str:
    """Return a key that sorts names in natural order: `x1000c0s2` before `x1000c0s10`.

    In this order, a cabinet is directly followed by everything inside the cabinet: the key of
    `x1c0` begins with the key of `x1`, but the key of `x10` does not.
    """
    return _LONG_NUMBER.sub(_number_key, name)


def _number_key(match: "re.Match[str]") -> str:
    """Return the matched number, preceded by a character for its length, as a part of a sort key.

    This character makes longer numbers sort after shorter ones; the character itself sorts after
    all digits and before all small letters. A number of one digit is returned without it.
    """
    digits = match[0].lstrip("0") or "0"
    length = chr(min(len(digits), 32) + ord("8")) if len(digits) > 1 else ""
    # Zeros in front decide between numbers that are equal otherwise.
    return f"{length}{digits}" + "\0" * (len(match[0]) - len(digits))


def within(xname: str, group: str) -> bool:
    """Return whether `xname` is `group` itself, or names a component inside `group`.

    `group` is the xname of a cabinet, a chassis or another component. Both xnames must be in normal
    form.
    """
    return xname.startswith(group) and not xname[len(group) : len(group) + 1].isdecimal()


def fold(names: Iterable[str]) -> str:
    """Return names as one sorted nodeset; without names, return an empty text.

    The nodeset is short, but not always the shortest possible one, which would take long to find.
    The names must contain no characters that `expand` rejects.
    """
    # Names with the same text between their numbers are points in a space of numbers. Along one
    # axis after another, the last one first, those that differ on this axis only become one.
    patterns: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for name in names:
        parts = _NUMBER.split(name)
        patterns.setdefault(tuple(parts[::2]), set()).add(tuple(parts[1::2]))
    texts: list[tuple[str, str]] = []
    for pattern, points in patterns.items():
        boxes: Iterable[tuple[tuple[str, ...], ...]] = (
            tuple((number,) for number in point) for point in points
        )
        for axis in reversed(range(len(pattern) - 1)):
            boxes = _merged(boxes, axis)
        texts += [_box_text(pattern, box) for box in boxes]
    texts.sort()
    return ",".join(text for _, text in texts)


def _merged(
    boxes: Iterable[tuple[tuple[str, ...], ...]], axis: int
) -> list[tuple[tuple[str, ...], ...]]:
    """Merge the boxes that differ only in the numbers at the index `axis`; return the result.

    A box stands for names that differ only in their numbers. It has, for each place in the names
    that has a number, a tuple of the numbers that occur there, and stands for all combinations.
    """
    same: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for box in boxes:
        same.setdefault(box[:axis] + box[axis + 1 :], []).extend(box[axis])
    return [
        (*rest[:axis], tuple(sorted(numbers, key=_number_order)), *rest[axis:])
        for rest, numbers in same.items()
    ]


def _number_order(number: str) -> tuple[int, int]:
    return int(number), len(number)


def _box_text(pattern: tuple[str, ...], box: tuple[tuple[str, ...], ...]) -> tuple[str, str]:
    """Return a sort key for a box of names, and the nodeset that stands for these names.

    The names differ only in their numbers. `box` has, for each place in the names that has a
    number, a tuple of the numbers that occur there, in all combinations. `pattern` has the texts
    before, between and after the numbers.
    """
    first, text = [pattern[0]], [pattern[0]]
    for numbers, after in zip(box, pattern[1:], strict=True):
        first += (numbers[0], after)
        text += (numbers[0] if len(numbers) == 1 else f"[{_ranges(numbers)}]", after)
    return natural_key("".join(first)), "".join(text)


def _ranges(numbers: tuple[str, ...]) -> str:
    """Return sorted numbers as a nodeset's list of ranges, such as `0-7,9`.

    Numbers that are padded with zeros to different lengths are in different ranges.
    """
    ranges: list[list[str]] = []
    for number in numbers:
        if ranges and _follows(ranges[-1][-1], number):
            ranges[-1] = [ranges[-1][0], number]
        else:
            ranges.append([number])
    return ",".join("-".join(ends) for ends in ranges)


def _follows(before: str, number: str) -> bool:
    """Return whether `number` is `before` plus one, with the same padding: `08` after `07`."""
    return str(int(before) + 1).zfill(_padding(before)) == number


def _padding(number: str) -> int:
    """Return the number of digits of a number that begins with 0, such as `007`; otherwise 0."""
    return len(number) if number[0] == "0" and len(number) > 1 else 0


def expand(text: str, most: int) -> Iterator[str]:
    """Return an iterator over the names in a nodeset, which makes each name when it is requested.

    The iterator may return a name more than once. Raise `NodesetError`, before any name is made, if
    the text is not a nodeset, or has more than `most` names; repeated names count each time.
    """
    if len(text) > _LONGEST:
        raise NodesetError(f"{_shown(text)} has more than {_LONGEST:,} characters")
    terms: list[tuple[str, int, Iterator[str]]] = []
    for operator, term in _split(text):
        count, names = _parse_term(term)
        terms.append((operator, count, names))
    count = sum(count for _, count, _ in terms)
    if count > most:
        raise NodesetError(f"{_shown(text)} are {count:,} names; no more than {most:,} are allowed")
    if all(operator == "," for operator, _, _ in terms):
        return chain.from_iterable(names for _, _, names in terms)
    if count > _MOST_COMBINED:
        raise NodesetError(
            f"{_shown(text)} combines {count:,} names by '!', '&' or '^'; no more than"
            f" {_MOST_COMBINED:,} are allowed"
        )
    return iter(_combined(terms))


def pieces(nodeset: str, size: int) -> Iterator[str]:
    """Yield a nodeset that `fold` has made in pieces, which are nodesets themselves.

    Each piece has `size` characters at most, unless a single term is longer.
    """
    piece: list[str] = []
    length = 0
    for match in _MEMBER.finditer(nodeset):
        term = match[0]
        if piece and length + len(term) > size:
            yield ",".join(piece)
            piece, length = [], 0
        piece.append(term)
        length += len(term) + 1
    if piece:
        yield ",".join(piece)


def _combined(terms: Iterable[tuple[str, int, Iterator[str]]]) -> dict[str, None]:
    """Return the names in `terms`, combined by the operators from left to right, as keys of a dict.

    Each of `terms` is an operator, how many names the term has, and these names: `,` adds them, `!`
    removes them, `&` leaves only them, and `^` removes those that are there and adds the others.

    The time that a term takes depends only on how many names it has itself, however many there are
    already: a short text may have thousands of terms.
    """
    found: dict[str, None] = {}
    for operator, _, names in terms:
        if operator == ",":
            found.update(dict.fromkeys(names))
        elif operator == "&":
            found = {name: None for name in names if name in found}
        elif operator == "!":
            for name in names:
                found.pop(name, None)
        else:
            for name in dict.fromkeys(names):
                if name in found:
                    del found[name]
                else:
                    found[name] = None
    return found


def _split(text: str) -> Iterator[tuple[str, str]]:
    """Yield the operator (`,`, `!`, `&` or `^`) and the text of each term of a nodeset, in order.

    Raise `NodesetError` if a term is missing next to an operator.
    """
    operator = ","
    after = False
    for match in _TOKEN.finditer(text.strip()):
        if match["term"]:
            yield operator, match["term"]
        elif after:
            operator = match["operator"].strip() or ","
        if bool(match["term"]) is after:
            raise NodesetError(f"{_shown(text)} lacks a name next to '{match[0].strip()}'")
        after = not after
    if text.strip() and not after:
        raise NodesetError(f"{_shown(text)} lacks a name next to '{operator}'")


def _parse_term(term: str) -> tuple[int, Iterator[str]]:
    """Return the number of names of a term, and an iterator that makes them.

    A term is a part of a nodeset between operators, such as `x1000c[0-7]s0b0`. Raise `NodesetError`
    if it is invalid.
    """
    if "[" not in term and "]" not in term:
        if not _PLAIN.fullmatch(term):
            raise _misfit(term)
        if len(term) > _LONGEST_NAME:
            raise NodesetError(f"{_shown(term)} has more than {_LONGEST_NAME} characters")
        return 1, iter((term,))
    literals: list[str] = []
    lists: list[list[range]] = []
    paddings: list[list[int]] = []
    end, count = 0, 1
    while match := _PIECE.match(term, end):
        if end and not match[1]:
            raise NodesetError(f"{_shown(term)} has two lists in brackets side by side")
        ranges, padded = _parse_list(term, match[2])
        literals.append(match[1])
        lists.append(ranges)
        paddings.append(padded)
        count *= sum(map(len, ranges))
        end = match.end()
    tail = term[end:]
    if tail and not _PLAIN.fullmatch(tail):
        raise _misfit(tail)
    if len(lists) > _MOST_LISTS:
        raise NodesetError(f"{_shown(term)} has more than {_MOST_LISTS} lists in brackets")
    if sum(map(len, literals)) + len(tail) > _LONGEST_NAME - 9 * len(lists):
        raise NodesetError(f"{_shown(term)} has names of more than {_LONGEST_NAME} characters")
    return count, _make_names(literals, lists, paddings, tail)


def _parse_list(term: str, text: str) -> tuple[list[range], list[int]]:
    """Return the ranges in `text`, a list such as `0-7,9`, and the padding of each range.

    The padding is the number of digits to which zeros in front lengthen the numbers of a range, or
    0 if there are none. Raise `NodesetError`, which quotes `term`, if the list is invalid.
    """
    ranges: list[range] = []
    paddings: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise NodesetError(f"{_shown(term)} has no list of numbers in [{_shown(text, '')}]")
        first, last, step = match[1], match[2] or match[1], int(match[3] or 1)
        padding = _padding(first)
        if int(last) < int(first) or not step:
            raise NodesetError(f"{_shown(term)} has an empty range {part.strip()}")
        if max(padding, _padding(last)) and len(first) != len(last):
            raise NodesetError(f"{_shown(term)} has zeros at one end only of {part.strip()}")
        ranges.append(range(int(first), int(last) + 1, step))
        paddings.append(padding)
    return ranges, paddings


def _make_names(
    literals: list[str], lists: list[list[range]], paddings: list[list[int]], tail: str
) -> Iterator[str]:
    """Return an iterator that makes the names of a term with lists in brackets.

    The numbers of the last list change fastest: `x1c0s0`, `x1c0s1`, `x1c1s0`, `x1c1s1`.

    `literals` are the texts before each list, and `tail` is the text after the last one. `lists`
    has the ranges of numbers in each list, `paddings` the number of digits of each range, or 0.
    """

    def add(made: str, axis: int) -> Iterator[str]:
        if axis == len(lists):
            yield made + tail
            return
        for numbers, padding in zip(lists[axis], paddings[axis], strict=True):
            for number in numbers:
                yield from add(f"{made}{literals[axis]}{number:0{padding}}", axis + 1)

    return add("", 0)


def _misfit(term: str) -> NodesetError:
    if "@" in term:
        return NodesetError(f"{_shown(term)}: node groups (@) are not known to hbtd")
    if "*" in term or "?" in term:
        return NodesetError(f"{_shown(term)}: there are no wildcards")
    if "[" in term or "]" in term:
        return NodesetError(f"{_shown(term)} has a bracket without the other one")
    return NodesetError(f"{_shown(term)} has characters that are in no name")


def _shown(text: str, quote: str = "'") -> str:
    """Return a nodeset for an error message: quoted, printable, and cut off if it is long."""
    cut = text[:_LONGEST_SHOWN] + "..." * (len(text) > _LONGEST_SHOWN)
    return f"{quote}{cut.encode('unicode_escape').decode('ascii')}{quote}"


def count_names(names: Collection[str]) -> str:
    """Return a text for log lines: one name as it is, several as "2 components: x1c[0-1]"."""
    folded = fold(names)
    return folded if len(names) == 1 else f"{len(names)} components: {folded}"


def portions(names: Iterator[str], size: int) -> Iterator[list[str]]:
    """Yield names in lists of `size` names each; the last list may be shorter.

    The names of a list are taken from the iterator `names` only when that list is requested.
    """
    while portion := list(islice(names, size)):
        yield portion
