"""Decides, by the `Host` header of a request, whether the request is addressed to this host."""

import re
from pathlib import Path

from hbtd.access.peers import is_loopback

_HOSTS = Path("/etc/hosts")

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::[0-9]*)?")


def read_own_names(hostname: str, path: Path = _HOSTS) -> frozenset[str]:
    """Return, in lower case, `hostname` and the names that share a line with it in a hosts file.

    `path` is the hosts file, which usually has the fully qualified name of this host. DNS is not
    used, because queries would delay the start, and an attacker may control the answers.
    """
    own = hostname.lower()
    try:
        lines = path.read_text("utf-8", "replace").lower().splitlines()
    except OSError:
        lines = []
    entries = [line.partition("#")[0].split()[1:] for line in lines]
    names = {own, *(name for entry in entries if own in entry for name in entry)}
    return frozenset(names - {""})


def names_own_host(host: str, own_names: frozenset[str]) -> bool:
    """Return whether the value of a `Host` header (RFC 9110 7.2) names this host.

    The value names this host if it is `localhost`, a loopback address, or one of `own_names`, with
    or without a port.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    if match[1] is not None:
        return is_loopback(match[1])
    name = match[2].lower().removesuffix(".")
    return name == "localhost" or name in own_names or is_loopback(name)
