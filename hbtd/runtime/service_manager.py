"""The protocols of systemd: sockets that it passes, its watchdog, and messages to it.

The protocols are described in sd_listen_fds(3), sd_watchdog_enabled(3) and sd_notify(3).
Environment variables that are meant for another process, or are invalid, count as unset.
"""

import socket
from collections.abc import Mapping

from hbtd.runtime.unix_paths import why_too_long

FIRST_SOCKET = 3
"""The file descriptor of the first socket that systemd passes."""

_MOST_SOCKETS = 1024
"""The most sockets that systemd may pass; a greater number in LISTEN_FDS is invalid."""


def passed_sockets(environ: Mapping[str, str], pid: int) -> range:
    """Return the file descriptors of the sockets that systemd has passed to the process `pid`.

    `environ` is the environment of the process. The range is empty if the sockets were passed to
    another process, from which the process `pid` has inherited its environment.
    """
    count = _number(environ.get("LISTEN_FDS"))
    if count is None or count > _MOST_SOCKETS or _number(environ.get("LISTEN_PID")) != pid:
        return range(0)
    return range(FIRST_SOCKET, FIRST_SOCKET + count)


def names_of_sockets(environ: Mapping[str, str], pid: int) -> str:
    """Return a value for LISTEN_FDNAMES that names each socket passed to the process `pid`.

    Each name is "unknown", and colons separate the names: "unknown:unknown" for two sockets. Such a
    value is needed if systemd has not set LISTEN_FDNAMES, because Twisted does not use the sockets
    without this variable. systemd, too, calls a socket without a name "unknown".
    """
    return ":".join("unknown" for _ in passed_sockets(environ, pid))


def watchdog_period(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the longest time, in seconds, between two watchdog messages of the process `pid`.

    Return `None` if systemd's watchdog is not on for this process.
    """
    microseconds = _number(environ.get("WATCHDOG_USEC"))
    if microseconds is None or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return microseconds / 1e6


def _number(text: str | None) -> int | None:
    """Return a text as an integer; `None` if the text is not a positive decimal number."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 20:
        return None
    return int(text) or None


class NotifySocket:
    """The socket to which a service sends messages for systemd."""

    def __init__(self, address: str) -> None:
        """Prepare to send to an address as in NOTIFY_SOCKET: a path, or a name that begins with @.

        Raise `ValueError` if the address has another form, or is too long.
        """
        if address[:1] not in ("/", "@") or len(address) < 2 or "\0" in address:
            raise ValueError(f"{address!r} is neither an absolute path nor a name after '@'")
        # The name after an @ may have as many bytes as a path.
        if why := why_too_long(address.removeprefix("@")):
            raise ValueError(f"{address!r}: {why}")
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket: socket.socket | None = None

    def send(self, message: str) -> None:
        """Send a message without blocking; raise `OSError` if that fails."""
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            made.setblocking(False)
            self._socket = made
        self._socket.sendto(message.encode("utf-8", "replace"), self._address)
