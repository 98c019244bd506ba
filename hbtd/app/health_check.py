"""`hbtd --health`: asks the hbtd on this host, started with the same options, if it is alive.

A container's health check runs every few seconds and has to be quick. So the request is made with
the standard library only, without Twisted's reactor.
"""

import http.client
import re
import socket
import ssl
from contextlib import ExitStack, suppress
from typing import NamedTuple

from hbtd.config.params import Params

_SECONDS = 5.0
"""Within which hbtd has to connect, and to answer."""

_PATH = "/hmi/v1/liveness"

_WILDCARDS = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "localhost"}  # noqa: S104

# Parts of Twisted's descriptions of endpoints; a backslash precedes a colon that parts nothing.
_PART = re.compile(r"((?:[^:\\]|\\.)*)(?::|$)")


class _Where(NamedTuple):
    """An address to connect to."""

    host: str
    port: int
    path: str = ""
    """Of a Unix socket; empty if it is none."""


def why_not_alive(params: Params) -> str:
    """Return in one line why the hbtd with these parameters is not alive; `""` if it is alive.

    The function blocks until hbtd has answered. Connecting to hbtd, and each wait for bytes from
    hbtd, may take at most five seconds. The server's certificate is not verified: the request only
    asks whether hbtd answers, and contains no secret.
    """
    try:
        where = _where(params)
    except ValueError as error:
        return str(error)
    name = where.path or f"{where.host}:{where.port}"
    try:
        status = _ask(params, where)
    except ssl.SSLError as error:
        # To end strangers in the handshake is a sign of life.
        if params.tls_client_ca and "CERTIFICATE_REQUIRED" in str(error.reason):
            return ""
        return f"no TLS with {name}: {error.reason or error}"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {name}: {error or type(error).__name__}"
    return "" if status == 204 else f"{name} answers {status} to GET {_PATH}, not 204"


def _where(params: Params) -> _Where:
    """Return where an hbtd with these parameters can be reached on this host.

    Raise `ValueError`, with a message, if that can't be known.
    """
    if not params.listen:
        host = params.addresses[0] if params.addresses else ""
        return _Where(_WILDCARDS.get(host, host), _port(str(params.port)))
    parts = [re.sub(r"\\(.)", r"\1", part) for part in _PART.findall(params.listen)]
    kind = params.endpoint_kind
    if kind == "haproxy":
        kind, *parts = parts[1:]
    else:
        parts = parts[1:]
    named = dict(part.partition("=")[::2] for part in parts if "=" in part)
    first = next((part for part in parts if part and "=" not in part), "")
    if kind == "unix":
        return _Where("", 0, named.get("address", first))
    if kind in ("tcp", "tcp4", "tcp6"):
        host = named.get("interface", "")
        default = "::1" if kind == "tcp6" else "127.0.0.1"
        return _Where(default if host in _WILDCARDS else host, _port(named.get("port", first)))
    raise ValueError(f"--health can't ask a {kind} endpoint; it can ask tcp and unix ones")


def _port(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"--health can't know where hbtd listens with the port {text!r}")
    return int(text)


def _ask(params: Params, where: _Where) -> int:
    """Return the status with which hbtd answers; raise what `socket`, `ssl` and `http` raise."""
    with ExitStack() as opened:
        if where.path:
            connected = opened.enter_context(socket.socket(socket.AF_UNIX))
            connected.settimeout(_SECONDS)
            connected.connect(where.path)
        else:
            address = (where.host, where.port)
            connected = opened.enter_context(socket.create_connection(address, _SECONDS))
        if params.endpoint_kind == "haproxy":
            connected.sendall(b"PROXY UNKNOWN\r\n")
        if params.serves_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connected = opened.enter_context(context.wrap_socket(connected))
        connection = http.client.HTTPConnection("localhost", timeout=_SECONDS)
        opened.callback(connection.close)
        connection.sock = connected
        # Who has ended the connection meanwhile may have said why: that is read below.
        with suppress(OSError):
            connection.request("GET", _PATH, headers={"Connection": "close"})
        return connection.getresponse().status
