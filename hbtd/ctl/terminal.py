"""The output of a command: tables, messages and progress, with colours on a terminal only."""

from collections.abc import Mapping, Sequence
from typing import TextIO

from hbtd.ctl.escaping import shown

_COLOURS = {"healthy": "32", "warned": "33", "dead": "31"}
_PADDING = "  "
_PRETTIEST = 2000
"""Rows up to which a table is laid out by rich, which takes a millisecond for each."""


class Terminal:
    """Standard input, output and error of a command, and what the terminal can do."""

    def __init__(self, stdin: TextIO, out: TextIO, err: TextIO, environ: Mapping[str, str]) -> None:
        self.stdin = stdin
        self.out = out
        self.err = err
        self.interactive = out.isatty()
        """Whether standard output is a terminal."""
        self.asks = stdin.isatty() and err.isatty()
        """Whether the user can be asked questions: standard input and error are both a terminal."""
        dumb = environ.get("TERM", "") in ("", "dumb")
        self.coloured = self.interactive and not dumb and not environ.get("NO_COLOR")
        encoding = (getattr(out, "encoding", None) or "ascii").lower()
        self.draws = encoding.replace("-", "").startswith("utf")
        """Whether standard output can show characters beyond ASCII."""
        self._progress = ""

    def line(self, text: str = "") -> None:
        """Print a line on standard output; callers must have escaped it (`hbtd.ctl.escaping`)."""
        self.clear_progress()
        print(text, file=self.out)

    def note(self, text: str) -> None:
        """Escape a message for the user, and print it on standard error."""
        self.clear_progress()
        print(f"hbtctl: {shown(text, 4000)}", file=self.err, flush=True)

    def progress(self, text: str) -> None:
        """Show the progress of a command on standard error, if that is a terminal."""
        if self.err.isatty():
            self.clear_progress()
            self._progress = f"hbtctl: {shown(text, 120)} ..."
            print(self._progress, end="\r", file=self.err, flush=True)

    def clear_progress(self) -> None:
        """Remove the text that `progress` has shown."""
        if self._progress:
            print(" " * len(self._progress), end="\r", file=self.err, flush=True)
            self._progress = ""

    def paint(self, text: str, state: str) -> str:
        """Return a text in the colour of a state; unchanged if the output is not coloured."""
        colour = _COLOURS.get(state)
        return f"\x1b[{colour}m{text}\x1b[0m" if self.coloured and colour else text

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[str]],
        states: Sequence[str] = (),
        *,
        titles: bool = True,
    ) -> None:
        """Print a table; callers must have escaped its texts (`hbtd.ctl.escaping`).

        `states` has the state of each row, for its colour; `titles` says whether `headers` are
        printed. On a terminal with colours, a table of up to 2000 rows is fitted to the terminal's
        width. Otherwise each row is one line, with two or more blanks between cells.
        """
        self.clear_progress()
        if self.interactive and self.coloured and len(rows) <= _PRETTIEST:
            try:
                self._rich_table(headers, rows, states, titles)
            except ImportError:  # an installation without rich
                pass
            else:
                return
        widths = [len(header) if titles else 0 for header in headers]
        for row in rows:
            widths = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
        for row in [headers, *rows] if titles else rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            print(_PADDING.join(cells).rstrip(), file=self.out)

    def _rich_table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[str]],
        states: Sequence[str],
        titles: bool,
    ) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        styles = {"healthy": "", "warned": "yellow", "dead": "red"}
        table = Table(box=None, show_header=titles, header_style="bold", pad_edge=False)
        for i, header in enumerate(headers):
            table.add_column(Text(header), no_wrap=i == 0, overflow="fold")
        for i, row in enumerate(rows):
            style = styles.get(states[i], "") if states else ""
            table.add_row(*map(Text, row), style=style)
        Console(file=self.out, highlight=False).print(table)
