"""A client of hbtd's API that uses one connection at a time: TLS, TCP or a Unix socket."""

import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from hbtd.ctl.escaping import shown
from hbtd.ctl.failures import Busy, Failure, Misused, Refused, Unreachable

_PORT = 28500
_PATH = "/hmi/v1"
_MOST = 64 << 20
_OF_GATEWAYS = (502, 504)
"""Statuses that hbtd never answers with: a gateway does, such as while hbtd is restarted."""
_NAMED = re.compile(r"[A-Za-z][A-Za-z0-9._@-]{0,30}:")

Query = Mapping[str, object]
"""Query parameters by name; a parameter whose value is `None` or empty is not sent."""


class Target(NamedTuple):
    """Where hbtd is: the scheme, host and port of its address, and the path of its API.

    The scheme is `http`, `https` or `unix`; for `unix`, `host` is the path of the socket.
    """

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether hbtd's address is a Unix socket, or a loopback address of this host."""
        return self.scheme == "unix" or self.host in ("localhost", "127.0.0.1", "::1")


class Settings(NamedTuple):
    """The settings of the connection to hbtd, from the command line and the environment."""

    url: str
    ca: str = "system"
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None
    timeout: float = 10.0
    command: str = "hbtctl"
    """The name of the command, sent as `User-Agent`, for hbtd's log."""
    longest: float = 60.0
    """Seconds after which a call fails if its answer is incomplete, even if data keeps arriving."""


class Answer(NamedTuple):
    """An HTTP response of hbtd: the status, the headers, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body; raise `Failure` if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            start = shown(self.body.decode("utf-8", "replace"), 60)
            raise Failure(f"the answer is not JSON, so perhaps not hbtd's: {start}") from None


def parse_url(url: str) -> Target:
    """Return the target that a URL names; raise `Misused` if the URL can't be used.

    `unix:/run/hbtd.sock` names a Unix socket. The default port is 28500, the default path
    `/hmi/v1`.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "unix" and rest.strip("/"):
        return Target("unix", rest.removeprefix("//"), 0, _PATH)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Misused(f"--url {shown(url)} can't be used: {error}") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.username:
        raise Misused(
            f"--url {shown(url)} can't be used: give https://HOST:PORT, http://HOST:PORT or "
            "unix:/PATH, also as HBTCTL_URL"
        )
    return Target(parts.scheme, host, port or _PORT, parts.path.rstrip("/") or _PATH)


def read_token(path: str) -> str:
    """Return the token in a file: its first line that is neither empty nor a comment.

    The line may have the format of hbtd's own token file, with a name before the token and a time
    of expiry after it. Raise `Misused` if the file can't be read or has no token.
    """
    try:
        with open(path, encoding="ascii") as file:
            lines = [line.strip() for line in file]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII"
        raise Misused(f"--token-file {shown(path)} can't be read: {reason}") from None
    for line in lines:
        if line and not line.startswith("#"):
            token = _NAMED.sub("", line.split()[0], count=1)
            if token.isprintable() and token:
                return token
    raise Misused(f"--token-file {shown(path)} has no token")


class Client:
    """A client of hbtd's API that limits the time and the size of each answer.

    The setting `timeout` is the most seconds that connecting may take, and the most seconds for
    which the server may send nothing. The setting `longest` is the most seconds that a whole answer
    may take. No connection is made before the first call.
    """

    def __init__(self, settings: Settings) -> None:
        self.target = parse_url(settings.url)
        self._settings = settings
        self._connection: http.client.HTTPConnection | None = None
        self._sock: socket.socket | None = None
        self._late = False
        self._headers = {"Accept": "application/json", "User-Agent": settings.command}
        if settings.token_file:
            self._headers["Authorization"] = f"Bearer {read_token(settings.token_file)}"
        self._context = _context(settings) if self.target.scheme == "https" else None

    @property
    def exposes_token(self) -> bool:
        """Whether requests send a token over a network without TLS."""
        plain = self.target.scheme == "http" and not self.target.local
        return plain and "Authorization" in self._headers

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate in DER, as presented on the open connection.

        `None` if no connection is open, or if the connection does not use TLS.
        """
        sock = None if self._connection is None else self._connection.sock
        return sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None

    def get(self, path: str, query: Query | None = None) -> Any:
        """Return the answer to a GET, decoded from JSON; raise `Failure` if the request fails."""
        return self.call("GET", path, query).json()

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
        expected: tuple[int, ...] = (),
    ) -> Answer:
        """Return the answer to a request, if its status is 2xx or in `expected`.

        Otherwise raise `Failure` with the reason that hbtd gives. If the server has closed the
        connection since the last call, send the request on a new one.
        """
        reused = self._connection is not None
        with self._limited():
            try:
                response = self._send(method, path, query, body)
            except Unreachable:
                if not reused or self._late:
                    raise
                response = self._send(method, path, query, body)
            try:
                content = response.read(_MOST + 1)
                if self._late:
                    raise TimeoutError
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(error) from error
        if len(content) > _MOST:
            self.close()
            raise Failure(f"the answer to {method} {path} is longer than {_MOST >> 20} MiB")
        answer = Answer(response.status, dict(response.headers), content)
        if not 200 <= answer.status < 300 and answer.status not in expected:
            raise self._failure(path, answer)
        return answer

    def stream(self, path: str, query: Query, last_id: str, silence: float) -> Iterator[bytes]:
        """Yield the body of an endless answer in pieces, as they arrive.

        Raise `Unreachable` if no byte arrives for `silence` seconds. The iterator ends when the
        server ends the answer. `last_id` is sent as `Last-Event-ID`, unless it is empty.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        response = self._send("GET", path, query, None, headers)
        try:
            if response.status != 200:
                answer = Answer(response.status, dict(response.headers), response.read(_MOST))
                raise self._failure(path, answer)
            if self._connection is not None and self._connection.sock is not None:
                self._connection.sock.settimeout(silence)
            while chunk := response.read1(65536):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            response.close()
            self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Return a context manager that ends a call in its block after `longest` seconds.

        The call then raises `Unreachable`. The setting `timeout` alone would not end an answer of
        which a byte arrives now and then.
        """
        self._late = False
        timer = threading.Timer(self._settings.longest, self._cut_off)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut_off(self) -> None:
        """End the call in progress, since its answer takes too long; run in a timer's thread."""
        self._late = True
        sock = self._sock
        if sock is not None:
            with suppress(OSError):
                # Not the method of a TLS socket, which the other thread is using.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _send(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: object,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        url = self.target.path + path
        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        if given:
            url += "?" + urlencode(given, quote_via=quote, safe=",[]")
        data = None if body is None else json.dumps(body).encode()
        try:
            if self._connection is None:
                self._connection = self._connect()
            if self._connection.sock is None:
                self._connection.connect()
            self._sock = self._connection.sock
            self._connection.request(method, url, data, {**self._headers, **(headers or {})})
            return self._connection.getresponse()
        except http.client.InvalidURL as error:
            raise Misused(f"--url {self.target}: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _connect(self) -> http.client.HTTPConnection:
        target, timeout = self.target, self._settings.timeout
        if target.scheme == "unix":
            return _UnixConnection(target.host, timeout)
        if self._context is not None:
            return http.client.HTTPSConnection(
                target.host, target.port, timeout=timeout, context=self._context
            )
        return http.client.HTTPConnection(target.host, target.port, timeout=timeout)

    def _unreachable(self, error: Exception) -> Unreachable:
        self.close()
        where = f"{self.target} can't be reached"
        if self._late:
            return Unreachable(f"{where}: no whole answer within {self._settings.longest:g} s")
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(
                f"{where}: its certificate is not trusted ({error.verify_message}); give its CA "
                "with --ca PATH, or for tests --ca insecure"
            )
        if isinstance(error, TimeoutError):
            return Unreachable(f"{where}: no answer within {self._settings.timeout:g} s")
        if isinstance(error, http.client.BadStatusLine) and self.target.scheme == "http":
            return Unreachable(f"{where}: it does not speak plain HTTP; try https://")
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(error):
            reason = "it does not speak TLS; try http://"
        return Unreachable(f"{where}: {shown(reason)}")

    def _failure(self, path: str, answer: Answer) -> Failure:
        """Return the exception to raise for an unsuccessful answer to a request for `path`."""
        try:
            detail = shown(json.loads(answer.body)["detail"], 2000)
        except (ValueError, KeyError, TypeError):
            detail = f"answered {answer.status} to {path}"
        if answer.status in (401, 403):
            hint = "" if "Authorization" in self._headers else "; --token-file gives a token"
            return Refused(f"hbtd refuses this: {detail}{hint}")
        if answer.status == 404:
            return Failure(
                f"{self.target} has no {self.target.path}{path}: it is an earlier release, or "
                "not hbtd"
            )
        if 300 <= answer.status < 400:
            return Failure(f"{self.target} redirects to {shown(answer.headers.get('Location'))}")
        if answer.status in (429, 503):
            pause = shown(answer.headers.get("Retry-After"), 20)
            return Busy(
                f"hbtd can't do it now: {detail}" + (f"; again in {pause} s" if pause else "")
            )
        if answer.status in _OF_GATEWAYS:
            return Unreachable(
                f"{self.target} can't be reached: a gateway before it answered {answer.status}"
            )
        if 400 <= answer.status < 500:
            return Misused(f"hbtd says: {detail.rstrip('; ')}")
        return Failure(f"hbtd failed: {detail}")


class _UnixConnection(http.client.HTTPConnection):
    """A connection for plain HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _context(settings: Settings) -> ssl.SSLContext:
    """Return the context for TLS; raise `Misused` if a file can't be used."""
    ca, cert, key = settings.ca, settings.cert, settings.key
    try:
        if ca == "insecure":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context(cafile=None if ca == "system" else ca)
    except OSError as error:  # ssl.SSLError is one, too
        reason = error.strerror or "it has no certificate"
        raise Misused(f"--ca {shown(ca)} can't be used: {reason}") from None
    if key and not cert:
        raise Misused("--key needs --cert")
    if cert:
        try:
            # Without a password, or OpenSSL would ask for it.
            context.load_cert_chain(cert, key, password=lambda: "")
        except OSError as error:
            reason = error.strerror or str(error)
            raise Misused(f"--cert {shown(cert)} can't be used: {reason}") from None
    return context
