"""The table that `make bench` prints."""

import os
import platform
from importlib.metadata import version
from typing import NamedTuple

from OpenSSL import SSL


class Row(NamedTuple):
    """A measurement: its name, its figure and its target."""

    what: str
    figure: str
    target: str = ""


def machine() -> list[Row]:
    """Return rows about the machine, Python, and the packages in use.

    The OpenSSL is pyOpenSSL's, which serves TLS, not that of Python's `ssl`.
    """
    openssl = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode("ascii")
    packages = ("Twisted", "klein", "treq", "pyOpenSSL", "kafka-python", "orjson")
    return [
        Row("machine", f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}"),
        Row("Python", f"{platform.python_version()}, {openssl}"),
        Row("packages", ", ".join(f"{name} {version(name)}" for name in packages)),
    ]


def formatted(rows: list[Row]) -> str:
    """Return rows as a Markdown table."""
    cells = [Row("measurement", "figure", "target"), *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
