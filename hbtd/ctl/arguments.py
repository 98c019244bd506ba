"""The command line of hbtctl."""

import sys
from argparse import (
    SUPPRESS,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from hbtd import __version__
from hbtd.ctl.client import Settings
from hbtd.ctl.commands import COMMANDS
from hbtd.ctl.failures import MEANINGS, USAGE
from hbtd.ctl.values import period

DEFAULT_URL = "https://localhost:28500"


class Parser(ArgumentParser):
    """A parser of arguments that reports each error in one line."""

    def error(self, message: str) -> NoReturn:
        """Print an error message in one line, and exit with status 2."""
        command = self.prog.split()[0]
        print(f"{command}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(USAGE)


_DESCRIPTION = """\
Ask hbtd which components of the machine are alive, and tell it what it should
know. Every command has its own help with examples: hbtctl COMMAND --help"""

_NAMES = """\
Names are xnames, NIDs (83, nid000083) or hostnames, alone or as nodesets such
as x1000c[0-7]s[0-7]b0n0 or nid[000001-000064]; several are separated by blanks
or commas, - reads them from standard input, and @GROUP is a group of
ClusterShell on this host. Put brackets in quotes. All times are in UTC."""

_ENVIRONMENT = (
    ("HBTCTL_URL", f"where hbtd is, as --url (default {DEFAULT_URL})"),
    ("HBTCTL_TOKEN_FILE", "as --token-file"),
    ("HBTCTL_CA", "as --ca"),
    ("HBTCTL_CERT, HBTCTL_KEY", "as --cert and --key"),
    ("NO_COLOR", "if it is set, nothing is coloured"),
)

_GROUPS = {
    "look": "look",
    "follow": "follow what happens",
    "act": "wait and act",
    "service": "hbtd itself",
}


class Parsers(NamedTuple):
    """The parser of hbtctl's command line, and the parsers of its commands, by command name."""

    main: ArgumentParser
    commands: Mapping[str, ArgumentParser]


def make_parsers(environ: Mapping[str, str]) -> Parsers:
    """Return hbtctl's parsers; some defaults come from the environment variables `environ`."""
    main = Parser(
        prog="hbtctl",
        usage="hbtctl [OPTION...] COMMAND [ARGUMENT...]",
        description=f"{_DESCRIPTION}\n\n{_listed()}\n\n{_NAMES}",
        epilog=f"{_table('environment', _ENVIRONMENT)}\n\n{_table('exit status', MEANINGS)}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    _add_common(main, _defaults(environ))
    main.add_argument(
        "--version",
        action="version",
        version=f"hbtctl {__version__}",
        help="show the version, and exit",
    )
    commands = main.add_subparsers(metavar="COMMAND", dest="command", help=SUPPRESS, prog="hbtctl")
    made: dict[str, ArgumentParser] = {}
    for command in COMMANDS:
        examples = "\n".join(f"  {example}" for example in command.examples)
        parser = commands.add_parser(
            command.name,
            usage=f"hbtctl {command.name} [OPTION...]{command.usage}",
            description=command.text,
            epilog=f"examples:\n{examples}",
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        command.add(parser)
        _add_common(parser, None)
        made[command.name] = parser
    return Parsers(main, made)


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> Namespace:
    """Return the options in `arguments`.

    If an option or argument can't be used, print a message and exit with status 2. If no command is
    given, print the help and exit with status 0.
    """
    parsers = make_parsers(environ)
    _check_options(arguments, parsers)
    options, rest = parsers.main.parse_known_args(list(_with_times(arguments)))
    if options.command == "maintenance":
        # argparse gives up the names that stand behind an option which stands behind the action.
        options.names += [word for word in rest if word == "-" or word[:1] != "-"]
        rest = [word for word in rest if word != "-" and word[:1] == "-"]
    if rest:
        asked = parsers.commands.get(options.command, parsers.main)
        asked.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command is None:
        parsers.main.print_help()
        raise SystemExit(0)
    names = options.command in ("list", "absent") or (options.command == "history" and options.at)
    if options.output == "nodeset" and not names:
        parsers.main.error(
            f"-o nodeset is for list, absent and history --at, not for {options.command}"
        )
    if options.command in ("wait", "forget") and not (options.names or options.under):
        parsers.commands[options.command].error(
            "no components are named: give a NODESET, or --under"
        )
    if options.command == "send":
        options.counted = bool(options.count)
    return options


def _check_options(words: Sequence[str], parsers: Parsers) -> None:
    """Exit with status 2, and suggest a name, if an option is given that no command has.

    Without this check, if an unknown option stood before the command's name, argparse would take
    the option's value to be that name.
    """
    asked = next((parsers.commands[word] for word in words if word in parsers.commands), None)
    everywhere = [parsers.main, *parsers.commands.values()]
    known = {name for parser in everywhere for name in parser._option_string_actions}
    for word in words:
        name = word.partition("=")[0]
        if name == "--":
            return
        if name.startswith("--") and name not in known:
            from hbtd.config.suggestions import did_you_mean

            parser = asked or parsers.main
            meant = did_you_mean(name, parser._option_string_actions)
            parser.error(f"unrecognized arguments: {word}{meant}")


def _with_times(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command line, with `--since -2h` joined to `--since=-2h`.

    Otherwise argparse would take `-2h` for an option. `--until` and `--at` are treated alike.
    """
    rest = iter(words)
    for word in rest:
        if word in ("--since", "--until", "--at"):
            time = next(rest, None)
            yield word if time is None else f"{word}={time}"
        else:
            yield word


def settings(options: Namespace, command: str = "hbtctl") -> Settings:
    """Return the settings of the connection to hbtd, from the options of a command.

    `command` is the command's name, which is sent as `User-Agent` and so appears in hbtd's log.
    """
    return Settings(
        options.url, options.ca, options.cert, options.key, options.token_file,
        options.http_timeout, command,
    )  # fmt: skip


def connection_defaults(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the default values for `add_connection`; some come from environment variables."""
    return {
        "url": environ.get("HBTCTL_URL") or DEFAULT_URL,
        "token_file": environ.get("HBTCTL_TOKEN_FILE") or None,
        "ca": environ.get("HBTCTL_CA") or "system",
        "cert": environ.get("HBTCTL_CERT") or None,
        "key": environ.get("HBTCTL_KEY") or None,
        "http_timeout": 10.0,
    }


def _defaults(environ: Mapping[str, str]) -> dict[str, Any]:
    return {**connection_defaults(environ), "output": "table", "headers": True}


def _add_common(parser: ArgumentParser, defaults: Mapping[str, Any] | None) -> None:
    """Add the options that may stand before the command and after it.

    `defaults` are the default values by name; if it is `None`, the options have no default values.
    """

    def default(name: str) -> Any:
        return defaults[name] if defaults is not None else SUPPRESS

    parser.add_argument("-h", "--help", action="help", help="show this help, and exit")
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o", "--output", choices=("table", "wide", "json", "nodeset"), metavar="FORM",
        default=default("output"),
        help="table (default), wide, json (what hbtd answers), or nodeset (list, absent and"
        " history --at)",
    )  # fmt: skip
    group.add_argument(
        "--no-headers", dest="headers", action="store_false", default=default("headers"),
        help="tables without their first line",
    )  # fmt: skip
    add_connection(parser, defaults)


def add_connection(parser: ArgumentParser, defaults: Mapping[str, Any] | None) -> None:
    """Add the options that say how to reach hbtd, with the default values `defaults`.

    If `defaults` is `None`, the result of parsing has no attribute for an option that is not given.
    """

    def default(name: str) -> Any:
        return defaults[name] if defaults is not None else SUPPRESS

    group = parser.add_argument_group("connection")
    group.add_argument(
        "--url", metavar="URL", default=default("url"),
        help=f"https://HOST:PORT, http://HOST:PORT or unix:/PATH (default {DEFAULT_URL})",
    )  # fmt: skip
    group.add_argument(
        "--token-file", metavar="PATH", default=default("token_file"),
        help="a file whose first line is the token to send",
    )  # fmt: skip
    group.add_argument(
        "--ca", metavar="CA", default=default("ca"),
        help="whom to trust: system (default), a file of certificates, or insecure",
    )  # fmt: skip
    group.add_argument("--cert", metavar="PATH", default=default("cert"), help="client certificate")
    group.add_argument("--key", metavar="PATH", default=default("key"), help="its key")
    group.add_argument(
        "--http-timeout", metavar="SECONDS", type=period, default=default("http_timeout"),
        help="how long to wait for hbtd's answers (10)",
    )  # fmt: skip


def _listed() -> str:
    """Return a text that lists the commands by group, for `--help`."""
    lines: list[str] = []
    for group, title in _GROUPS.items():
        lines.append(f"{title}:")
        lines += [f"  {c.name:11} {c.summary}" for c in COMMANDS if c.group == group]
    return "\n".join(lines)


def _table(title: str, rows: Sequence[tuple[object, str]]) -> str:
    width = max(len(str(name)) for name, _ in rows)
    return "\n".join([f"{title}:", *(f"  {name!s:{width}}  {text}" for name, text in rows)])


ENVIRONMENT = _ENVIRONMENT
"""The environment variables, each with its meaning, for the manual page."""
NAMES_TEXT = _NAMES
"""The section of the manual page about names of components."""
DESCRIPTION = _DESCRIPTION
"""The description of hbtctl for the manual page."""
