"""The command line and the environment: how hbtd is told its parameters.

The environment is read first, the command line wins. Spelling follows the field's service:
`--name=value`, `--name value` and `-name=value` are one, `--nosm` may stand alone.
"""

import re
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from twisted.python.usage import Options, UsageError

from hbtd import __version__
from hbtd.config.params import PARAMETERS, Params
from hbtd.config.value_types import HTTP_URL, SWITCH, SWITCH_WORDS
from hbtd.runtime.logs import escaped

_KV_URL = "kv_url"


def _shown(value: object) -> str:
    """Write a default for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "none"


def _without_password(text: str) -> str:
    """Leave out the password that somebody may have written into a URL."""
    return re.sub("(//[^/@:]*):.*@", r"\1:...@", text)


class HbtdOptions(Options):
    """hbtd's options; parsed, they hold the `Params` in `params`."""

    synopsis = "Usage: hbtd [options]"
    longdesc = (
        "Tracks the heartbeats of a machine's components and tells the Hardware State Manager and"
        " Kafka who has started, gone quiet, come back or died. Every option can be set in the"
        " environment, too: --warntime is HBTD_WARNTIME."
    )

    # The real defaults are applied last: what is None here was not given.
    optParameters: ClassVar = [
        [p.name, None, None, f"{p.help} (Default: {_shown(p.default)})"] for p in PARAMETERS
    ]

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()
        self._environ = environ
        self.params = Params()

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"hbtd {__version__}")
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse arguments; raises `UsageError` for what can't be used, in one line."""
        super().parseOptions(_normalised(sys.argv[1:] if options is None else options))

    def parseArgs(self, *args: str) -> None:
        """Refuse what is no option."""
        if args:
            raise UsageError(f"{args[0]!r} is no option")

    def postOptions(self) -> None:
        """Make the parameters out of what was given, and check that they can be used."""
        given: dict[str, Any] = {}
        for parameter in PARAMETERS:
            name, text = f"--{parameter.name}", self[parameter.name]
            if text is None:
                name, text = parameter.environment, self._environ.get(parameter.environment)
                # An empty one counts as none; but that of etcd means where charts say it is.
                text = text if text or parameter.name == _KV_URL else None
            if text is None:
                continue
            try:
                given[parameter.name] = parameter.kind.parse(text)
            except ValueError:
                raise UsageError(
                    f"{name}={_without_password(text)!r} can't be used: it must be"
                    f" {parameter.kind.allowed}"
                ) from None
        params = Params(**given)
        if not params.kv_url:
            params = Params(**{**given, _KV_URL: self._etcd_url()})
        if bool(params.kv_cert) != bool(params.kv_key):
            raise UsageError("--kv_cert and --kv_key must be given together")
        if bool(params.tls_cert) != bool(params.tls_key):
            raise UsageError("--tls_cert and --tls_key must be given together")
        if (params.listen or not params.tls) and (params.tls_cert or params.tls_client_ca):
            instead = "--listen" if params.listen else "--tls=no"
            raise UsageError(f"{instead} leaves no use for --tls_cert, --tls_key, --tls_client_ca")
        _check_access(params)
        self.params = params

    def _etcd_url(self) -> str:
        """Find etcd in the environment that Kubernetes charts set."""
        host, port = self._environ.get("ETCD_HOST"), self._environ.get("ETCD_PORT")
        if not host or not port:
            raise UsageError(
                f"--{_KV_URL} is empty, and ETCD_HOST and ETCD_PORT don't say where etcd is;"
                " sqlite:PATH and mem: need neither"
            )
        try:
            return str(HTTP_URL.parse(f"http://{host}:{port}"))
        except ValueError:
            raise UsageError(
                f"ETCD_HOST={host!r}, ETCD_PORT={port!r} can't be used: they must be a host and a"
                f" port, as --{_KV_URL} is empty"
            ) from None


def _check_access(params: Params) -> None:
    """Refuse ways of access that can't work; raises `UsageError`."""
    asking = [
        name
        for name, asks in (
            ("operator_access", bool(params.operator_ways.names)),
            ("node_access", params.node_ways.certificates),
        )
        if asks
    ]
    if asking and not params.tls_client_ca:
        raise UsageError(
            f"--{asking[0]}={getattr(params, asking[0])!r} can't be used without --tls_client_ca,"
            " nor without TLS of hbtd's own: certificates must be asked for and checked"
        )
    # Twisted reads the kind of an endpoint in any case, and a backslash as nothing.
    kind = params.listen.replace("\\", "").partition(":")[0].lower()
    if params.operator_ways.loopback and kind == "haproxy":
        raise UsageError(
            "--operator_access=loopback can't be used with a haproxy endpoint, where anybody can"
            " claim to be on this host"
        )


class CommandLine(HbtdOptions):
    """The same for use on a command line: says in one line what can't be used, and exits with 2."""

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse arguments, or exit."""
        try:
            super().parseOptions(options)
        except UsageError as error:
            print(escaped(f"hbtd: {error}; see hbtd --help"), file=sys.stderr)
            raise SystemExit(2) from None


def _normalised(arguments: Sequence[str]) -> list[str]:
    """Bring arguments into the one form that the parser knows: `--name=value` or `--name value`."""
    valued = {f"--{parameter.name}" for parameter in PARAMETERS}
    switches = {f"--{p.name}" for p in PARAMETERS if p.kind is SWITCH and not p.fixed}
    normalised: list[str] = []
    left = deque(arguments)
    while left:
        argument = left.popleft()
        if argument.startswith("-") and not argument.startswith("--") and len(argument) > 2:
            argument = "-" + argument
        if argument in switches and not (left and left[0].lower() in SWITCH_WORDS):
            argument += "=yes"
        normalised.append(argument)
        if argument in valued and left:
            normalised.append(left.popleft())  # a value, whatever it looks like
    return normalised
