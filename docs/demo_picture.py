"""Draw the output of `make demo` as a terminal window.

    python -m hbtd.simulator demo | python docs/demo_picture.py > docs/images/demo.svg

`make demo-picture` does that. Columns are placed one by one, so that they are aligned in any font.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

_FONT: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_SIZE, _ADVANCE, _LINE = 13, 7.8, 20
"""The font's size, the width of a character, and the distance of two lines, in pixels."""

_MARGIN, _BAR = 20, 38
"""Space beside and below the text, and the height of the title bar, in pixels."""

_WINDOW, _TITLE_BAR, _TEXT, _DIM = "#161b26", "#232a38", "#d5dbe5", "#8490a5"
_SPEAKERS: Final = {"demo": _DIM, "hbtd": "#7cb7ff", "nodes": "#c39bf5", "HSM": "#e8b56d"}
_STATES: Final = {"Ready/OK": "#7fd18c", "Ready/Warning": "#f0d264", "Standby/Alert": "#ff8080"}

_SAID = re.compile(r"(?P<time> *[\d.]+ s)  (?P<speaker>\w+) +(?P<text>.*)")
_PIECE = re.compile("|".join(map(re.escape, _STATES)) + r"|\S+(?: \S+)*")

Piece = tuple[int, str, str]
"""A column, a text that begins there, and its colour."""


def pieces(line: str) -> Iterator[Piece]:
    """Split a line of the demonstration at its columns and states."""
    said = _SAID.fullmatch(line)
    if said is None:
        yield 0, line, _TEXT
        return
    yield said.start("time"), said["time"], _DIM
    yield said.start("speaker"), said["speaker"], _SPEAKERS.get(said["speaker"], _TEXT)
    for found in _PIECE.finditer(said["text"]):
        yield said.start("text") + found.start(), found[0], _STATES.get(found[0], _TEXT)


def svg(lines: Sequence[str]) -> str:
    """Return a picture of a terminal with these lines."""
    width = round(2 * _MARGIN + _ADVANCE * max(map(len, lines)))
    height = _BAR + _MARGIN // 2 + _LINE * len(lines) + _MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img" font-family="{_FONT}" font-size="{_SIZE}">',
        "<title>The output of make demo: nodes of a small fleet lose power, hang and return, and"
        " hbtd updates HSM</title>",
        f'<rect width="{width}" height="{height}" rx="10" fill="{_WINDOW}"/>',
        f'<path d="M0 {_BAR}V10a10 10 0 0 1 10-10H{width - 10}a10 10 0 0 1 10 10V{_BAR}z"'
        f' fill="{_TITLE_BAR}"/>',
    ]
    for i, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        drawn.append(f'<circle cx="{_MARGIN + 4 + 20 * i}" cy="{_BAR / 2}" r="6" fill="{colour}"/>')
    drawn.append(
        f'<text x="{width / 2}" y="{_BAR / 2 + 5}" text-anchor="middle" fill="{_DIM}">'
        "$ make demo</text>"
    )
    for number, line in enumerate(lines, 1):
        y = _BAR + _MARGIN // 2 + _LINE * number - 3
        for column, text, colour in pieces(line):
            blank = len(text) - len(text.lstrip())
            x = _MARGIN + _ADVANCE * (column + blank)
            text = text.lstrip()
            drawn.append(
                f'<text x="{x:.1f}" y="{y}" textLength="{_ADVANCE * len(text):.1f}"'
                f' fill="{colour}">{escape(text)}</text>'
            )
    return "\n".join([*drawn, "</svg>", ""])


if __name__ == "__main__":
    sys.stdout.write(svg(sys.stdin.read().splitlines()))
