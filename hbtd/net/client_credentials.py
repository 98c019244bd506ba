"""hbtd's TLS credentials as a client: the authorities it trusts, the certificate it presents."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cryptography.x509 import Certificate
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from hbtd.net.chains import Expiring, expiring_authorities, expiring_chain
from hbtd.net.http_client import BoundedPool
from hbtd.net.tls import (
    Identity,
    TLSUnusable,
    describe_authorities,
    describe_identity,
    load_authorities,
    load_identity,
    make_policy,
)
from hbtd.runtime.watched_files import WatchedFiles


class ClientCredentials:
    """The authorities and the certificate that hbtd uses as a client of one server.

    The files with authorities, a certificate and its key are read again when they change.
    """

    def __init__(
        self,
        server: str,
        ca_option: str,
        trust: str,
        cert_option: str = "",
        cert_path: str = "",
        key_path: str = "",
    ) -> None:
        """Read the files; raise `TLSUnusable` if a file is missing or invalid.

        `server` is the server's name in log lines. `ca_option` is the name of the option whose
        value is `trust`: `system`, `insecure` or the path of a bundle, as for `client_policy`.
        `cert_path` and `key_path` are the paths of the certificate to present and of its key, both
        empty if there is none; `cert_option` is the name of the option whose value is `cert_path`.
        """
        self._server = server
        self._ca_option = ca_option
        self._cert_option = cert_option
        self._trust = trust
        self._authorities: WatchedFiles[list[Certificate]] | None = None
        self._identity: WatchedFiles[Identity] | None = None
        if trust not in ("system", "insecure"):
            self._authorities = WatchedFiles(
                f"The authorities in {ca_option}={trust}",
                [trust],
                lambda: load_authorities(trust),
                TLSUnusable,
                describe=describe_authorities,
            )
        if cert_path:
            self._identity = WatchedFiles(
                f"The certificate in {cert_option}={cert_path} and its key in {key_path}",
                [cert_path, key_path],
                lambda: load_identity(cert_path, key_path),
                TLSUnusable,
                describe=describe_identity,
            )
        self.watched: list[WatchedFiles[Any]] = [
            each for each in (self._authorities, self._identity) if each is not None
        ]
        """The files with these credentials; the caller must give them to a `FileWatcher`."""
        self._listeners: list[Callable[[], None]] = []
        self._certificates = self._current()
        self.policy: IPolicyForHTTPS = self._make_policy()
        """The TLS policy for new connections."""
        for each in self.watched:
            each.on_change(self._read_again)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of the certificates; `policy` has changed by then."""
        self._listeners.append(listener)

    def also_watch(self, files: WatchedFiles[Any]) -> None:
        """Add to `watched` the file of another secret that is used for the same server."""
        self.watched.append(files)

    def presented(self) -> Iterator[tuple[str, Certificate]]:
        """Yield one pair if hbtd presents a certificate to the server, and nothing otherwise.

        The pair is the name of the certificate's option, such as `kv_cert`, and the certificate.
        """
        if self._identity is not None:
            yield self._cert_option.lstrip("-"), self._identity.current.chain[0]

    def expiring(self) -> Iterator[Expiring]:
        """Yield the certificates in use, for `ExpiryNotices`."""
        if self._authorities is not None:
            consequence = (
                f"hbtd no longer trusts {self._server} if this authority has certified it."
                " Renew the authority's certificate."
            )
            yield from expiring_authorities(self._authorities.current, self._ca_option, consequence)
        if self._identity is not None:
            yield from expiring_chain(
                self._identity.current.chain,
                f"hbtd's certificate in {self._cert_option}",
                f"{self._server} no longer trusts hbtd. Renew it.",
                "servers",
            )

    def _current(self) -> list[Sequence[Certificate]]:
        return [
            () if self._authorities is None else self._authorities.current,
            () if self._identity is None else self._identity.current.chain,
        ]

    def _make_policy(self) -> IPolicyForHTTPS:
        authorities = () if self._authorities is None else self._authorities.current
        identity = None if self._identity is None else self._identity.current
        return make_policy(self._trust, authorities, identity)

    def _read_again(self) -> None:
        before, self._certificates = self._certificates, self._current()
        if self._certificates == before:
            return
        self.policy = self._make_policy()
        for listener in self._listeners:
            listener()


@implementer(IAgent)
class RenewedAgent:
    """An HTTP agent that uses only new connections after the credentials have changed.

    Requests in progress finish on the old connections; each of these is closed after its request.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        credentials: ClientCredentials,
        make_pool: Callable[[], BoundedPool],
        connect_timeout: float | None = None,
    ) -> None:
        """Make an agent whose connections use the current certificates of `credentials`.

        `make_pool` returns a new pool of connections. An attempt to connect takes at most
        `connect_timeout` seconds; `None` stands for Twisted's default.
        """
        self._reactor = reactor
        self._connect_timeout = connect_timeout
        self._make_pool = make_pool
        self.credentials = credentials
        """The credentials for new connections."""
        self._pool, self._agent = self._make()
        credentials.on_change(self._renew)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Make a request, on a connection with the current credentials.

        The arguments and the result are those of `IAgent.request`.
        """
        return self._agent.request(method, uri, headers, bodyProducer)

    def closeCachedConnections(self) -> Deferred[None]:
        """Close the idle connections now, and those in use when they become idle.

        The Deferred fires when the connections that are idle now are closed.
        """
        # A request that is in progress when hbtd stops gives its connection back later.
        self._pool.cachedConnectionTimeout = 0
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    def _make(self) -> tuple[BoundedPool, IAgent]:
        pool = self._make_pool()
        agent = Agent(
            self._reactor, self.credentials.policy, connectTimeout=self._connect_timeout, pool=pool
        )
        return pool, agent

    def _renew(self) -> None:
        old = self._pool
        self._pool, self._agent = self._make()
        # Connections in use come back to their pool, which then closes them at once.
        old.cachedConnectionTimeout = 0
        old.closeCachedConnections().addErrback(
            lambda failure: self._log.failure(
                "Because of a bug in hbtd, connections made with the old certificates could not be"
                " closed; restart hbtd to close them.",
                failure,
            )
        )
