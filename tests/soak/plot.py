"""Draws the samples of a soak: `python -m tests.soak.plot samples.csv > docs/images/soak.svg`.

The colours are legible on white and on black paper, as the drawing has no background.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

_WIDTH, _HEIGHT = 330, 110
_LEFT, _TOP, _GAP_X, _GAP_Y = 44, 40, 64, 44
_COLUMNS: Final = 2
_INK: Final = "#7d8590"
_COLOURS: Final = ("#2f81f7", "#d29922", "#3fb950", "#db61a2", "#8957e5")
_POINTS: Final = 160
"""The most points of a line."""

Row = Mapping[str, str]


class Panel(NamedTuple):
    """A part of the drawing: its title, and the columns of its lines."""

    title: str
    lines: Sequence[tuple[str, str]]
    """Labels and columns."""


_HBTDS: Final = (
    ("a", "replicas-a"),
    ("b", "replicas-b"),
    ("c", "replicas-c"),
    ("SQLite", "sqlite-a"),
)


def _each(measure: str) -> Sequence[tuple[str, str]]:
    return [(label, f"{name}.{measure}") for label, name in _HBTDS]


PANELS: Final = (
    Panel("memory of each hbtd, MB", _each("rss_mb")),
    Panel("memory of etcd, MB", [("etcd", "etcd.rss_mb")]),
    Panel("open files", _each("fds")),
    Panel("connections", _each("connections")),
    Panel("etcd's database, MB", [("file", "etcd.db_mb"), ("in use", "etcd.in_use_mb")]),
    Panel("SQLite's database, MB", [("file", "sqlite.file_mb"), ("its log", "sqlite.log_mb")]),
    Panel("changes not acknowledged by HSM", _each("pending")),
    Panel("nodes that beat", [("replicas", "replicas.beating"), ("SQLite", "sqlite.beating")]),
)


def points(rows: Sequence[Row], column: str) -> list[list[tuple[float, float]]]:
    """Return the lines of a column: pairs of seconds and value, parted where there is none."""
    parts: list[list[tuple[float, float]]] = [[]]
    for row in rows:
        if row.get(column):
            parts[-1].append((float(row["seconds"]), float(row[column])))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def rounded(value: float) -> float:
    """Return a round number that is not below a value, for the end of an axis."""
    size = 1.0
    while size * 10 <= value:
        size *= 10
    while size > value > 0:
        size /= 10
    return next(
        (step * size for step in (1, 1.5, 2, 3, 4, 5, 6, 8) if step * size >= value), 10 * size
    )


def svg(rows: Sequence[Row]) -> str:
    """Return a drawing of samples, the rows of the CSV file."""
    rows = rows[:: -(-len(rows) // _POINTS) or 1]
    end = float(rows[-1]["seconds"]) if rows else 0.0
    height = _TOP + -(-len(PANELS) // _COLUMNS) * (_HEIGHT + _GAP_Y)
    width = _LEFT + _COLUMNS * (_WIDTH + _GAP_X)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif" font-size="11" fill="{_INK}" role="img">',
        "<title>What hbtd, etcd and SQLite need over the time of a soak</title>",
    ]
    for number, panel in enumerate(PANELS):
        x = _LEFT + number % _COLUMNS * (_WIDTH + _GAP_X)
        y = _TOP + number // _COLUMNS * (_HEIGHT + _GAP_Y)
        drawn += _panel(rows, panel, x, y, end)
    return "\n".join([*drawn, "</svg>", ""])


def _panel(rows: Sequence[Row], panel: Panel, x: float, y: float, end: float) -> list[str]:
    lines = [(label, points(rows, column)) for label, column in panel.lines]
    most = rounded(max((v for _, parts in lines for part in parts for _, v in part), default=1.0))
    drawn = [_text(x, y - 20, panel.title, "start", bold=True)]
    for share in (0.0, 0.5, 1.0):
        at = y + _HEIGHT * (1 - share)
        drawn.append(
            f'<path d="M{x} {at:.1f}h{_WIDTH}" stroke="{_INK}" stroke-opacity="0.35" fill="none"/>'
        )
        drawn.append(_text(x - 5, at + 4, f"{most * share:g}", "end"))
    for share in (0.0, 0.5, 1.0):
        label = f"{end * share / 60:.0f} min" if share else "0"
        drawn.append(_text(x + share * _WIDTH, y + _HEIGHT + 14, label, "middle"))
    for number, (label, parts) in enumerate(lines):
        colour = _COLOURS[number]
        for part in parts:
            path = "L".join(
                f"{x + at / (end or 1) * _WIDTH:.1f} {y + _HEIGHT * (1 - value / (most or 1)):.1f}"
                for at, value in part
            )
            drawn.append(
                f'<path d="M{path}" stroke="{colour}" stroke-width="1.5" stroke-linecap="round"'
                ' fill="none"/>'
            )
        legend = _text(x + number * 62, y - 6, label, "start").replace(
            "<text", f'<text fill="{colour}"'
        )
        drawn.append(legend)
    return drawn


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def read(path: Path) -> list[dict[str, str]]:
    """Read the samples of a file; a last line that is not complete is left out."""
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


if __name__ == "__main__":
    sys.stdout.write(svg(read(Path(sys.argv[1]))))
