"""The environment variables that set parameters, and those that only look like them."""

import re
from collections.abc import Mapping

from hbtd.config.params import PARAMETERS
from hbtd.config.suggestions import did_you_mean

_PREFIX = "HBTD_"

_SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://[^/]+:[0-9]+")
"""Values that Kubernetes gives to variables such as `HBTD_PORT`, beside a Service named `hbtd`."""

_KUBERNETES = re.compile(
    r"HBTD_(?:SERVICE|PORT)_.*"
    # Beside a Service with a longer name, such as hbtd-etcd.
    r"|HBTD_\w+_(?:SERVICE_HOST|SERVICE_PORT|SERVICE_PORT_\w+|PORT|PORT_[0-9]+_(?:TCP|UDP|SCTP)\w*)"
)


def given(environ: Mapping[str, str], name: str) -> str | None:
    """Return the value of an environment variable, `None` if it counts as unset.

    A value that Kubernetes sets for a Service counts as unset, because such a variable may have the
    name of one that sets an option.
    """
    value = environ.get(name)
    return None if value is None or _SERVICE_LINK.fullmatch(value) else value


def warnings(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable `HBTD_...` for which there is no option.

    Variables without a value, and those that Kubernetes sets, are left out.
    """
    names = [parameter.environment.removeprefix(_PREFIX) for parameter in PARAMETERS]
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
