"""The command line and the environment, from which hbtd takes its parameters.

The command line takes precedence. Options are spelled as for the original hbtd: `--name=value`,
`--name value` and `-name=value` mean the same, and `--nosm` may be given without a value.
"""

import re
import sys
import textwrap
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from twisted.python.usage import Options, UsageError

from hbtd import __version__
from hbtd.config import environment
from hbtd.config.deployed import deployed_text
from hbtd.config.parameter import Group
from hbtd.config.params import PARAMETERS, Params
from hbtd.config.suggestions import did_you_mean
from hbtd.config.value_types import BASE_URL, SWITCH_WORDS
from hbtd.runtime.logs import escaped

_KV_URL = "kv_url"

_NAMES = (
    *(parameter.name for parameter in PARAMETERS),
    *("help", "version", "check", "health", "print-unit"),
)
"""The names of all options."""

# What getopt says of an option at the end of the line.
_WITHOUT_VALUE = re.compile(r"option --(\w+) requires argument")

_TEXT_COLUMN = 22
"""The column of `--help`, counted from 0, in which the descriptions of options begin."""


def _without_password(text: str) -> str:
    """Return a text; if it contains a URL with a password, the password is replaced by dots."""
    return re.sub("(//[^/@:]*):.*@", r"\1:...@", text)


class HbtdOptions(Options):
    """The options of hbtd, parsed with Twisted's `usage.Options`.

    `parseOptions` sets two attributes: `params`, the parameters, and `warnings`, a list of
    sentences for the log about variables in the environment. If an option can't be used,
    `parseOptions` raises `UsageError` with a message of one line. With `--check`, `parseOptions`
    raises no `UsageError`: it adds a message about each option that can't be used to the list
    `faults`, and sets `params` from all other options.
    """

    synopsis = "Usage: hbtd [options]"
    longdesc = (
        "Tracks the heartbeats of a machine's components, and tells the Hardware State Manager and"
        " Kafka when one starts, goes quiet, comes back or dies. Every option can also be set in"
        " the environment: --warntime is HBTD_WARNTIME."
    )

    # None means that an option was not given; `Params` has the defaults.
    optParameters: ClassVar = [[p.name, None, None, ""] for p in PARAMETERS]

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()
        self._environ = environ
        self.params = Params()
        self.warnings: list[str] = []
        self.check = False
        """Whether `--check` is given: this process only checks whether hbtd could start."""
        self.health = False
        """Whether `--health` is given: this process only asks the running hbtd if it is alive."""
        self.faults: list[str] = []
        self.parsed = False
        """Whether the command line could be split into options, so that `params` was set."""

    def getUsage(self, width: int | None = None) -> str:
        """Return the text of `--help`, `width` columns wide.

        By default, the width is the value of the environment variable `COLUMNS`, or 80 if the
        variable is not set or is not a number.
        """
        columns = self._environ.get("COLUMNS", "")
        width = width or (int(columns) if columns.isdecimal() else 80)
        lines = textwrap.wrap(self.longdesc, width)
        for group in Group:
            lines += ["", f"{group.value}:"]
            for parameter in PARAMETERS:
                if parameter.group is group:
                    text = f"{parameter.help} (Default: {parameter.shown_default})"
                    lines += _described(f"--{parameter.name}=", text.replace("`", ""), width)
        lines += ["", "Other:"]
        for option, name in (
            ("-h, --help", "help"),
            ("--version", "version"),
            ("--check", "check"),
            ("--health", "health"),
            ("--print-unit", "print-unit"),
        ):
            lines += _described(option, " ".join(self.docs[name].split()), width)
        return "\n".join(["", *lines])

    opt_h = Options.opt_help

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"hbtd {__version__}")
        raise SystemExit(0)

    def opt_check(self) -> None:
        """Say whether hbtd could start with these options, and what is wrong; change nothing."""
        self.check = True

    def opt_health(self) -> None:
        """Ask the hbtd that runs with these options whether it lives; exit with 0 if so, else 1."""
        self.health = True

    def opt_print_unit(self, name: str) -> NoReturn:
        """Print hbtd.service for systemd, or the file of deploy/ whose name follows, and exit."""
        try:
            print(deployed_text(name), end="")
        except LookupError as error:
            raise UsageError(f"--print-unit={name!r} can't be used: {error.args[0]}") from None
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse arguments, by default the arguments of the process, and set `params`.

        Raise `UsageError` if an argument or an environment variable can't be used, unless
        `--check` is among the arguments.
        """
        given = sys.argv[1:] if options is None else options
        # It is looked for first: what stands before it is checked, too.
        self.check = "--check" in map(_doubled, given)
        self.health = "--health" in map(_doubled, given)
        try:
            self._parse(_normalised(given, self._fault))
        except UsageError as error:
            if not self.check:
                raise
            self.faults.append(str(error))

    def _fault(self, message: str) -> None:
        """Raise `UsageError` with a message; with `--check`, add it to `faults` instead."""
        if not self.check:
            raise UsageError(message)
        self.faults.append(message)

    def _parse(self, arguments: Sequence[str]) -> None:
        try:
            super().parseOptions(arguments)
        except UsageError as error:
            if (missing := _WITHOUT_VALUE.search(str(error))) is None:
                raise
            name = missing[1]
            allowed = next(each.value_type.allowed for each in PARAMETERS if each.name == name)
            self._fault(f"--{name} needs a value: --{name}=VALUE ({allowed})")
            super().parseOptions(arguments[:-1])

    def postOptions(self) -> None:
        """Set `params` from the options and the environment.

        Raise `UsageError` if a value, or a combination of options, can't be used; with `--check`,
        add a message to `faults` instead.
        """
        try:
            environment.original_env(self._environ)
        except ValueError as error:
            self._fault(str(error))
            self._environ = {**self._environ, environment.ORIGINAL_ENV: ""}
        given = dict(self._values())
        params = Params(**given)
        if not params.kv_url:
            try:
                params = Params(**{**given, _KV_URL: self._etcd_url()})
            except UsageError as error:
                self._fault(str(error))
        for message in _contradictions(params):
            self._fault(message)
        self.params = params
        self.warnings = environment.warnings(self._environ)
        self.parsed = True

    def _values(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the value of each parameter that is given and can be used.

        For each parameter that can't be used, call `_fault` with a message.
        """
        for parameter in PARAMETERS:
            name, text = f"--{parameter.name}", self[parameter.name]
            if text is None:
                variable = environment.find(self._environ, parameter)
                if variable is None:
                    continue
                name, text = variable
            try:
                yield parameter.name, parameter.value_type.parse(text)
            except ValueError:
                self._fault(
                    f"{name}={_without_password(text)!r} can't be used: it must be"
                    f" {parameter.value_type.allowed}"
                )

    def _etcd_url(self) -> str:
        """Return the URL of etcd from the environment variables `ETCD_HOST` and `ETCD_PORT`.

        Raise `UsageError` if they are not set to a host and a port. Kubernetes charts set them.
        """
        host, port = self._environ.get("ETCD_HOST"), self._environ.get("ETCD_PORT")
        if not host or not port:
            raise UsageError(
                f"--{_KV_URL} is empty, and ETCD_HOST and ETCD_PORT don't say where etcd is;"
                " sqlite:PATH and mem: need neither"
            )
        try:
            return str(BASE_URL.parse(f"http://{host}:{port}"))
        except ValueError:
            raise UsageError(
                f"ETCD_HOST={host!r}, ETCD_PORT={port!r} can't be used: they must be a host and a"
                f" port, as --{_KV_URL} is empty"
            ) from None


def _contradictions(params: Params) -> Iterator[str]:
    """Yield a message about each combination of parameters that can't be used together.

    Each of these parameters could be used alone.
    """
    for cert in ("kv_cert", "tls_cert", "sm_cert", "telemetry_cert"):
        key = cert.replace("_cert", "_key")
        if bool(getattr(params, cert)) != bool(getattr(params, key)):
            yield f"--{cert} and --{key} must be given together"
    if params.telemetry_cert and not params.telemetry_tls:
        yield "--telemetry_cert takes --telemetry_tls=yes"
    if not params.tls and (params.tls_cert or params.tls_client_ca):
        yield "--tls=no excludes --tls_cert, --tls_key and --tls_client_ca"
    if params.listen and params.address:
        yield "--listen and --address exclude each other: an endpoint has its address"
    if params.listen and params.tls_client_ca and not params.tls_cert:
        yield "--tls_client_ca takes --tls_cert, as --listen is plain HTTP without it"
    for name in ("tls_client_crl", "tls_client_required"):
        if getattr(params, name) and not params.tls_client_ca:
            yield f"--{name} takes --tls_client_ca, by which clients' certificates are checked"
    kind = params.endpoint_kind
    if kind in ("ssl", "tls"):
        yield (
            f"--listen={params.listen!r} can't be used: write --listen=tcp:PORT, and --tls_cert and"
            " --tls_key"
        )
    elif kind == "haproxy" and params.tls_cert:
        yield (
            "--listen=haproxy:... excludes --tls_cert: the PROXY protocol comes before TLS, which"
            " the proxy has to terminate"
        )
    elif kind and kind not in ("tcp", "tcp4", "tcp6", "unix", "systemd") and params.tls_cert:
        yield f"--tls_cert can't be used with a {kind} endpoint; tcp, unix, systemd can"
    yield from _contradictions_of_access(params)


def _contradictions_of_access(params: Params) -> Iterator[str]:
    """Yield a message about each rule of access that contradicts how hbtd listens or uses TLS."""
    asking = [
        name
        for name, asks in (
            ("operator_access", bool(params.operator_rules.names)),
            ("node_access", params.node_rules.certificates),
        )
        if asks
    ]
    if asking and not params.tls_client_ca:
        yield (
            f"--{asking[0]}={getattr(params, asking[0])!r} can't be used without --tls_client_ca,"
            " nor without TLS of hbtd's own: certificates must be asked for and checked"
        )
    for name in ("jwt_issuer", "jwt_trust_domain"):
        if getattr(params, name) and not params.node_rules.jwks:
            yield f"--{name} takes --node_access=jwt:JWKS, as no JWTs are accepted without it"
    if params.operator_rules.loopback and params.endpoint_kind == "haproxy":
        yield (
            "--operator_access=loopback can't be used with a haproxy endpoint, whose clients can"
            " claim any address"
        )


def _described(option: str, text: str, width: int) -> list[str]:
    """Return the lines of `--help` about an option: its name, with `text` beside it or below."""
    name = f"  {option}"
    indent = " " * _TEXT_COLUMN
    wrapped = textwrap.wrap(
        text,
        max(width, 2 * _TEXT_COLUMN),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    if len(name) < _TEXT_COLUMN:
        return [name.ljust(_TEXT_COLUMN) + wrapped[0][_TEXT_COLUMN:], *wrapped[1:]]
    return [name, *wrapped]


class CommandLine(HbtdOptions):
    """The options of the command `hbtd`; an unusable option is reported and ends the process."""

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse arguments; if one can't be used, print why in one line, and exit with status 2.

        With `--health`, the exit status is 1 instead.
        """
        try:
            super().parseOptions(options)
        except UsageError as error:
            print(escaped(f"hbtd: {error}; see hbtd --help"), file=sys.stderr)
            # Who asks for the health of a container may know 0 and 1 only.
            raise SystemExit(1 if self.health else 2) from None


def _doubled(argument: str) -> str:
    """Return an argument with `-name` spelled `--name`."""
    single = argument.startswith("-") and not argument.startswith("--") and len(argument) > 2
    return f"-{argument}" if single else argument


def _normalised(arguments: Sequence[str], fault: Callable[[str], None]) -> list[str]:
    """Return arguments with `-name` spelled `--name`, and a flag without value `--name=yes`.

    `--print-unit` without a name becomes `--print-unit=hbtd.service`. Call `fault` with a message
    about each argument that is no option, and leave out such arguments.
    """
    valued = {"--print-unit", *(f"--{parameter.name}" for parameter in PARAMETERS)}
    flags = {f"--{parameter.name}" for parameter in PARAMETERS if parameter.flag}
    normalised: list[str] = []
    left = deque(arguments)
    while left:
        argument = _doubled(left.popleft())
        if argument.startswith("--"):
            unknown = _unknown(argument[2:].partition("=")[0])
            if unknown:
                fault(unknown)
                continue
        elif not argument.startswith("-") or argument == "-":
            fault(f"{argument!r} is not an option")
            continue
        argument = _spelt_out(argument)
        if argument in flags and not (left and left[0].lower() in SWITCH_WORDS):
            argument += "=yes"
        if argument == "--print-unit" and (not left or left[0].startswith("-")):
            argument += "=hbtd.service"
        normalised.append(argument)
        if argument in valued and left:
            normalised.append(left.popleft())  # a value, even if it begins with a dash
    return normalised


def _spelt_out(argument: str) -> str:
    """Return an argument, `--name` or `--name=value`, with a shortened name completed.

    Return the argument unchanged if the names of no option, or of several, begin with `name`.
    """
    name, equals, value = argument.partition("=")
    found = [f"--{each}" for each in _NAMES if f"--{each}".startswith(name)]
    whole = len(found) == 1 and name.startswith("--")
    return f"{found[0]}{equals}{value}" if whole else argument


def _unknown(name: str) -> str:
    """Return an error message if no option has a name that begins with `name`; otherwise ''."""
    if any(each.startswith(name) for each in _NAMES):
        return ""
    return f"there is no option --{name}{did_you_mean(name, _NAMES, '--')}"
