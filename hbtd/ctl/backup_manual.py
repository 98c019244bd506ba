"""Writes hbtd-backup's manual page to a file: `python -m hbtd.ctl.backup_manual FILE`.

The page is generated from the parser of hbtd-backup's command line.
"""

import sys
from pathlib import Path

from hbtd import __version__
from hbtd.ctl.manual import option, options, paragraphs, roff
from hbtd.store.backup import DESCRIPTION, MEANINGS, RESTORE, make_parser

_EXAMPLE = "hbtd-backup /var/lib/hbtd/hbtd.sqlite /backup/hbtd-$(date +%F).sqlite"


def page() -> str:
    """Return the manual page of hbtd-backup in roff."""
    lines = [
        '.\\" Written by make docs from hbtd/store/backup.py.',
        f'.TH HBTD-BACKUP 8 "" "hbtd {__version__}" "System Administration"',
        *(".SH NAME", "hbtd\\-backup \\- copies the records of hbtd, also while it runs"),
        *(".SH SYNOPSIS", ".B hbtd\\-backup", '.RI [ option... ] " " SOURCE " " TARGET'),
        *(".SH DESCRIPTION", *paragraphs(DESCRIPTION), ".PP", *paragraphs(RESTORE)),
        ".SH OPTIONS",
    ]
    parser = make_parser()
    for action in parser._actions:
        if not action.option_strings:
            lines += [".TP", f".I {action.metavar}", roff(action.help or "")]
    for action in options(parser):
        lines += option(action)
    lines.append(".SH EXIT STATUS")
    for number, meaning in MEANINGS:
        lines += [".TP", f".B {number}", roff(meaning)]
    lines += [".SH EXAMPLES", ".nf", roff(_EXAMPLE), ".fi"]
    lines += [".SH SEE ALSO", ".BR hbtd (8)"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
