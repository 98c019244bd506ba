"""Writes the manual page of hbtctl from its parsers: `python -m hbtd.ctl.manual FILE`."""

import re
import sys
from argparse import Action, ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from hbtd import __version__
from hbtd.ctl.arguments import DESCRIPTION, ENVIRONMENT, NAMES_TEXT, make_parsers
from hbtd.ctl.commands import COMMANDS
from hbtd.ctl.failures import MEANINGS


def page() -> str:
    """Return the manual page of hbtctl in roff."""
    main, commands = make_parsers({})
    common = {name for action in options(main) for name in action.option_strings}
    lines = [
        '.\\" Written by make docs from hbtd/ctl/commands.py and arguments.py.',
        f'.TH HBTCTL 1 "" "hbtd {__version__}" "User Commands"',
        *(".SH NAME", "hbtctl \\- asks hbtd which components of the machine are alive"),
        *(".SH SYNOPSIS", ".B hbtctl", '.RI [ option... ] " " command " " [ argument... ]'),
        *(".SH DESCRIPTION", *paragraphs(DESCRIPTION), ".PP", *paragraphs(NAMES_TEXT)),
        ".SH COMMANDS",
    ]
    for command in COMMANDS:
        lines += [f".SS {command.name}{roff(command.usage)}", *paragraphs(command.text)]
        for action in options(commands[command.name]):
            if not common.issuperset(action.option_strings):
                lines += option(action)
        lines += [".PP", "Examples:", ".PP", ".nf", ".RS"]
        lines += [roff(example) for example in command.examples]
        lines += [".RE", ".fi"]
    lines += [".SH OPTIONS", "These may stand before a command as well as behind it."]
    for action in options(main):
        lines += option(action)
    lines.append(".SH ENVIRONMENT")
    for name, meaning in ENVIRONMENT:
        lines += [".TP", f".B {roff(name)}", roff(meaning)]
    lines.append(".SH EXIT STATUS")
    for number, meaning in MEANINGS:
        lines += [".TP", f".B {number}", roff(meaning)]
    lines += [".SH SEE ALSO", ".BR hbtd (8),", ".BR nodeset (1),", ".BR clush (1)"]
    return "\n".join(lines) + "\n"


def options(parser: ArgumentParser) -> list[Action]:
    """Return the options of a parser, without its positional arguments."""
    return [action for action in parser._actions if action.option_strings]


def option(action: Action) -> Iterator[str]:
    """Yield the lines about an option, in roff."""
    value = f" \\fI{roff(str(action.metavar))}\\fR" if action.nargs is None else ""
    names = ", ".join(f"\\fB{roff(name)}\\fR" for name in action.option_strings)
    yield ".TP"
    yield f"{names}{value}"
    yield roff(action.help or "")


def paragraphs(text: str) -> list[str]:
    """Return the lines, in roff, of a text whose paragraphs are separated by empty lines."""
    lines = [roff(line) or ".PP" for line in text.split("\n")]
    return [f"\\&{line}" if re.match(r"[.'](?!PP$)", line) else line for line in lines]


def roff(text: str) -> str:
    r"""Convert a text to roff: `\` and `-` are shown as they are, code in backticks in bold."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escaped)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
