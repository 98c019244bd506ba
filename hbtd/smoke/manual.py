"""Writes the manual page of hbtd-smoke from its parser: `python -m hbtd.smoke.manual FILE`."""

import sys
from pathlib import Path

from hbtd import __version__
from hbtd.ctl.manual import option, options, paragraphs, roff
from hbtd.smoke.arguments import CARE, DESCRIPTION, EXAMPLES, MEANINGS, VARIABLES, make_parser


def page() -> str:
    """Return the manual page of hbtd-smoke in roff, the source format of manual pages."""
    lines = [
        '.\\" Written by make docs from hbtd/smoke/arguments.py.',
        f'.TH HBTD-SMOKE 1 "" "hbtd {__version__}" "User Commands"',
        *(".SH NAME", "hbtd\\-smoke \\- tries out a live hbtd"),
        *(".SH SYNOPSIS", ".B hbtd\\-smoke", ".RI [ option... ]"),
        *(".SH DESCRIPTION", *paragraphs(DESCRIPTION), ".PP", *paragraphs(CARE)),
        ".SH OPTIONS",
    ]
    for action in options(make_parser({})):
        lines += option(action)
    lines.append(".SH ENVIRONMENT")
    for name, meaning in VARIABLES:
        lines += [".TP", f".B {roff(name)}", roff(meaning)]
    lines += [".SH EXIT STATUS", "That of the first check that has failed."]
    for number, meaning in MEANINGS:
        lines += [".TP", f".B {number}", roff(meaning)]
    lines += [".SH EXAMPLES", ".nf", *map(roff, EXAMPLES), ".fi"]
    lines += [".SH SEE ALSO", ".BR hbtctl (1),", ".BR hbtd (8)"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
