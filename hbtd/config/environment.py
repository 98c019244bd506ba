"""The environment variables that set parameters, and warnings about unknown variables."""

import re
from collections.abc import Mapping

from hbtd.config.parameter import Parameter
from hbtd.config.params import PARAMETERS
from hbtd.config.suggestions import did_you_mean
from hbtd.config.value_types import SWITCH

_PREFIX = "HBTD_"

ORIGINAL_ENV = "HBTD_ORIGINAL_ENV"
"""The environment variable that says whether the variables in `ORIGINAL_NAMES` are used, too."""

ORIGINAL_NAMES = {
    name: name.upper()
    for name in (
        *("debug", "errtime", "warntime", "sm_url", "kv_url"),
        *("use_telemetry", "telemetry_host"),
    )
}
"""The environment variables of the original hbtd's container image, keyed by the option's name."""

_SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://[^/]+:[0-9]+")
"""Values that Kubernetes gives to variables such as `HBTD_PORT` if a Service is named `hbtd`."""

_KUBERNETES = re.compile(
    r"HBTD_(?:SERVICE|PORT)_.*"
    # Beside a Service with a longer name, such as hbtd-etcd.
    r"|HBTD_\w+_(?:SERVICE_HOST|SERVICE_PORT|SERVICE_PORT_\w+|PORT|PORT_[0-9]+_(?:TCP|UDP|SCTP)\w*)"
)


def find(environ: Mapping[str, str], parameter: Parameter) -> tuple[str, str] | None:
    """Return the name and value of the environment variable that sets a parameter.

    Return `None` if no variable sets the parameter. An empty variable counts as unset, unless the
    parameter is `kv_url`, for which an empty value has a meaning. The environment variables of the
    original hbtd's container image are used, too, if `original_env` returns `True`, but variables
    `HBTD_...` take precedence. Raise `ValueError` as `original_env` does.
    """
    names = [parameter.environment]
    if original_env(environ) and parameter.name in ORIGINAL_NAMES:
        names.append(ORIGINAL_NAMES[parameter.name])
    for name in names:
        text = _given(environ, name)
        if text or (text is not None and parameter.name == "kv_url"):
            return name, text
    return None


def original_env(environ: Mapping[str, str]) -> bool:
    """Return whether the environment variables of the original hbtd's container image are used.

    The variable `HBTD_ORIGINAL_ENV` says so; the default is no. Raise `ValueError`, with a message
    for operators, if the value of this variable is invalid.
    """
    text = environ.get(ORIGINAL_ENV)
    if not text:
        return False
    try:
        return bool(SWITCH.parse(text))
    except ValueError:
        message = f"{ORIGINAL_ENV}={text!r} can't be used: it must be {SWITCH.allowed}"
        raise ValueError(message) from None


def _given(environ: Mapping[str, str], name: str) -> str | None:
    """Return the value of an environment variable; `None` if the variable counts as unset.

    A value that Kubernetes sets for a Service counts as unset, because such a variable may have the
    name of one that sets an option.
    """
    value = environ.get(name)
    return None if value is None or _SERVICE_LINK.fullmatch(value) else value


def warnings(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each environment variable `HBTD_...` for which there is no option.

    There are no warnings about empty variables or about variables that Kubernetes sets.
    """
    known = [*(parameter.environment for parameter in PARAMETERS), ORIGINAL_ENV]
    names = [name.removeprefix(_PREFIX) for name in known]
    unknown = [
        name.removeprefix(_PREFIX)
        for name, value in sorted(environ.items())
        if name.startswith(_PREFIX) and value and not _KUBERNETES.fullmatch(name)
    ]
    return [
        f"Ignoring the environment variable {_PREFIX}{name}: there is no such option"
        f"{did_you_mean(name, names, _PREFIX)}."
        for name in unknown
        if name not in names
    ]
