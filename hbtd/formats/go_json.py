"""JSON as the original hbtd reads it, with Go's `encoding/json`."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

_DEEPEST: Final = 10_000
"""The most levels of nested arrays and objects that Go reads."""

_LEVELS: Final = 1000
"""The most levels of nesting in a text that is passed to orjson, which reads 1024."""

_OBJECT: Final = re.compile(rb"[ \t\r\n]*\{")
# The end is optional, so that a string without one is looked at once, not from each of its quotes.
_STRING: Final = re.compile(r'("[^"\\\x00-\x1f]*(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*)*"?)')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BROKEN_BYTE: Final = re.compile("[\udc80-\udcff]")
# In a text without escaped backslashes, where each backslash begins an escape.
_LONE_SURROGATE: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)

# Stand-ins: code points that are in no decoded text.
_MARK: Final = "\ud800"
_BRACKETS: Final = (("[", "\ud801"), ("]", "\ud802"), ("{", "\ud803"), ("}", "\ud804"))


def decode_object(body: bytes) -> object:
    """Decode a JSON object, for callers that use only its keys and strings.

    Accept what Go accepts but orjson rejects: numbers of any size, 10,000 levels of nesting, and,
    in strings, bytes that are not UTF-8 and lone surrogates, each of which becomes U+FFFD. In the
    result, `True` stands for each number, and for each value that is nested more than 1000 levels
    deep. Raise `ValueError` if the body is not a JSON object.

    Decoding takes a time that is proportional to the size of the body, whatever the body contains:
    up to about 0.1 µs for each byte.
    """
    if not _OBJECT.match(body):
        raise ValueError("no object")
    text = _BROKEN_BYTE.sub("\ufffd", body.decode("utf-8", "surrogateescape"))
    parts = _STRING.split(text)
    outside = _MARK.join(parts[::2])
    deep = outside.count("[") + outside.count("{") > _LEVELS
    parts[::2] = _NUMBER.sub("true", outside).split(_MARK)
    if deep:
        inside = _hide_brackets(_MARK.join(parts[1::2]))
        parts[1::2] = inside.split(_MARK) if len(parts) > 1 else []
    text = _replace_lone_surrogates("".join(parts))
    return orjson.loads(_flatten(text) if deep else text)


def pick(source: Mapping[str, object], names: Sequence[str]) -> list[object]:
    """Return an object's values for the keys `names`, in that order; `None` for a missing key.

    Case does not matter: `xname` matches `XName`. If several keys match, a key in the same case
    takes precedence; if there is none, the last matching key does.
    """
    folded: dict[str, object] | None = None
    values = []
    for name in names:
        if name in source:
            values.append(source[name])
            continue
        if folded is None:  # only if needed: most clients use the exact case
            folded = {key.casefold(): value for key, value in source.items()}
        values.append(folded.get(name.casefold()))
    return values


def _replace_lone_surrogates(text: str) -> str:
    """Return a JSON text in which U+FFFD replaces the escape of each lone surrogate."""
    if "\\u" not in text:
        return text
    single = _LONE_SURROGATE.sub("\ufffd", text.replace("\\\\", _MARK))
    return single.replace(_MARK, "\\\\")


def _flatten(text: str) -> str:
    """Return a JSON text in which values that are nested more than `_LEVELS` deep are `true`.

    The caller has replaced the brackets in the strings of `text` by stand-ins, with
    `_hide_brackets`; the strings in the result have their brackets again. Raise `ValueError` if a
    value to be replaced by `true` is no JSON, or if a value is nested more than `_DEEPEST` deep.
    """
    depth = start = 0
    blocks: list[list[str]] = [[]]
    for at, character in enumerate(text):
        if character in "[{":
            depth += 1
            if depth > _DEEPEST:
                break
            if depth % _LEVELS == 0:
                blocks[-1].append(text[start:at])
                blocks.append([])
                start = at
        elif character in "]}":
            if depth % _LEVELS == 0 and len(blocks) > 1:
                inner = "".join(blocks.pop()) + text[start : at + 1]
                orjson.loads(_show_brackets(inner))
                blocks[-1].append("true")
                start = at + 1
            depth -= 1
            if depth < 0:
                break
    if depth:
        raise ValueError("brackets don't match, or there are too many levels of them")
    return _show_brackets("".join(blocks[0]) + text[start:])


def _hide_brackets(text: str) -> str:
    for bracket, stand_in in _BRACKETS:
        text = text.replace(bracket, stand_in)
    return text


def _show_brackets(text: str) -> str:
    for bracket, stand_in in _BRACKETS:
        text = text.replace(stand_in, bracket)
    return text
