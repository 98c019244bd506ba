"""The command line of hbtd-smoke."""

from argparse import ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence

from hbtd import __version__
from hbtd.ctl.arguments import ENVIRONMENT, Parser, add_connection, connection_defaults
from hbtd.ctl.failures import BROKEN, INTERRUPTED, NO, REFUSED, UNREACHABLE, USAGE, YES
from hbtd.ctl.values import period
from hbtd.formats.xnames import parse as parse_xname

_MOST_DAYS = 100_000

DESCRIPTION = """\
Try out a live hbtd, as its nodes and operators reach it: probes, health,
parameters, certificate, clock, metrics and, with --xname, a heartbeat there and
back. The outcomes go to standard output, in TAP 14 or as JUnit's XML."""

CARE = """\
Without --xname nothing is changed. With it, the name of a component is needed
that HSM knows and that no node has: hbtd tells HSM and Kafka that it has started.
Nothing is sent if hbtd tracks the name, unless an earlier run has left it behind,
nor if this caller may not have it forgotten. The component goes on beating until
it is forgotten again, also after Ctrl-C and SIGTERM. It is not forgotten if
somebody else is seen to beat as it. As hbtd forgets a component once in Errtime
only, a run that follows another may take that much longer. HSM is not told that
it was forgotten, and goes on showing it as Ready.

The component is left behind, and will be declared dead, only if hbtd-smoke is
killed or interrupted once more, or if hbtd refuses to forget it or can't be
reached for longer than Errtime. A later run removes it; so does hbtctl forget."""

EXAMPLES = (
    "hbtd-smoke --url https://hbtd.example:28500 --ca site-ca.pem",
    "hbtd-smoke --xname x9999c0s0b0n0 --token-file /etc/hbtd/smoke-token",
    "hbtd-smoke --xname x9999c0s0b0n0 --hsm-url https://hsm.example/hsm/v2 -o junit > smoke.xml",
)

VARIABLES = tuple(pair for pair in ENVIRONMENT if pair[0].startswith("HBTCTL_"))

MEANINGS = (
    (YES, "all is as it should be"),
    (NO, "something is not: the first failed check is about hbtd's state"),
    (USAGE, "the command line can't be used, or hbtd says so of what it got (400)"),
    (UNREACHABLE, "hbtd can't be reached, or its certificate is not trusted"),
    (REFUSED, "hbtd refuses: credentials are missing or don't suffice (401, 403)"),
    (BROKEN, "hbtd can't do it now, or the answer is not one of hbtd's"),
    (INTERRUPTED, "interrupted by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP"),
)
"""The exit statuses of hbtd-smoke and their meanings.

hbtd-smoke exits with the status of the first check that failed.
"""


def make_parser(environ: Mapping[str, str]) -> Parser:
    """Return the parser of the command line, with defaults from the environment `environ`."""
    examples = "\n".join(f"  {each}" for each in EXAMPLES)
    statuses = "\n".join(f"  {number:<4} {meaning}" for number, meaning in MEANINGS)
    parser = Parser(
        prog="hbtd-smoke",
        usage="hbtd-smoke [OPTION...]",
        description=f"{DESCRIPTION}\n\n{CARE}",
        epilog=f"examples:\n{examples}\n\nexit status:\n{statuses}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="show this help, and exit")
    parser.add_argument(
        "--version",
        action="version",
        version=f"hbtd-smoke {__version__}",
        help="show the version, and exit",
    )
    parser.add_argument(
        "-o", "--output", choices=("tap", "junit"), default="tap", metavar="FORM",
        help="tap (default), or junit",
    )  # fmt: skip
    checks = parser.add_argument_group("checks")
    checks.add_argument(
        "--xname", type=_xname, metavar="XNAME", help="send heartbeats as this component"
    )
    checks.add_argument(
        "--hsm-url", metavar="URL", help="check that HSM, at this base URL, shows the component"
    )
    checks.add_argument(
        "--hsm-ca", metavar="CA", help="whom to trust there, as --ca (default: as --ca)"
    )
    checks.add_argument("--hsm-token-file", metavar="PATH", help="the token to send there")
    checks.add_argument(
        "--node-token-file", metavar="PATH",
        help="the token to send with heartbeats (default: as --token-file)",
    )  # fmt: skip
    checks.add_argument(
        "--timeout", metavar="SECONDS", type=period, default=15.0,
        help="how long hbtd and HSM may take to show the heartbeat (15)",
    )  # fmt: skip
    checks.add_argument(
        "--days", metavar="DAYS", type=_days, default=7.0,
        help="how long the certificate must be valid (7)",
    )  # fmt: skip
    checks.add_argument(
        "--apart", metavar="SECONDS", type=period, default=5.0,
        help="how far the clocks of hbtd and this host may be apart (5)",
    )  # fmt: skip
    add_connection(parser, connection_defaults(environ))
    return parser


def parse(words: Sequence[str], environ: Mapping[str, str]) -> Namespace:
    """Return the options in `words`; if they can't be used, say why on stderr, and exit with 2."""
    parser = make_parser(environ)
    options = parser.parse_args(list(words))
    if options.hsm_url and not options.xname:
        parser.error("--hsm-url takes --xname: it is about that component")
    return options


def _days(text: str) -> float:
    """Return a text as a number of days; raise `ArgumentTypeError` if it is no such number."""
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < _MOST_DAYS:
        raise ArgumentTypeError(f"{text!r} is not a number of days")
    return days


def _xname(text: str) -> str:
    """Return an xname in normal form; raise `ArgumentTypeError` if the text is no xname."""
    name = parse_xname(text)
    if name is None:
        raise ArgumentTypeError(f"{text!r} is no xname such as x9999c0s0b0n0")
    return name
