"""The certificate that hbtd serves with: replaced while it serves, and its end told in time."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from hbtd.periodic import periodic
from hbtd.tls import Identity, TLSUnusable, load_identity, server_options
from hbtd.watching import Watched

NOTICES = (30, 7, 1, 0)
"""Days before a certificate's end at which that is said; 0: it is over."""

_PERIOD = 600.0
"""Seconds between two looks at how long a certificate is still good."""


class Served:
    """A certificate, with all that connections are made of."""

    def __init__(self, identity: Identity, client_ca_path: str) -> None:
        """Make it; raises `TLSUnusable`."""
        self.identity = identity
        self.context = server_options(identity, client_ca_path).getContext()
        self.authorities = Path(client_ca_path).read_bytes() if client_ca_path else b""
        """Whose signatures under clients' certificates count, as the file has them."""


@implementer(IOpenSSLServerConnectionCreator)
class ServedCertificate:
    """Makes connections, each with the certificate that is served when it comes in.

    Connections that are there already go on with theirs.
    """

    def __init__(self, served: Served, watched: Watched[Served] | None = None) -> None:
        self._served = served
        self.watched = watched
        """The files that it comes from, if it does."""

    @property
    def identity(self) -> Identity:
        """The certificate that new connections get."""
        return self._now.identity

    def on_new_authorities(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever other authorities count for clients than before."""
        if self.watched is None:
            return
        counted = self._now.authorities

        def look() -> None:
            nonlocal counted
            before, counted = counted, self._now.authorities
            if counted != before:
                listener()

        self.watched.on_change(look)

    @property
    def _now(self) -> Served:
        return self._served if self.watched is None else self.watched.current

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make one connection."""
        return SSL.Connection(self._now.context, None)


def serve_files(cert_path: str, key_path: str, client_ca_path: str = "") -> ServedCertificate:
    """Serve with a certificate and its key from files, which may change; raises `TLSUnusable`.

    With a bundle of authorities, clients may present certificates that these have signed.
    """

    def load() -> Served:
        return Served(load_identity(cert_path, key_path), client_ca_path)

    paths = [path for path in (cert_path, key_path, client_ca_path) if path]
    watched = Watched("The certificate and key", paths, load, TLSUnusable)
    return ServedCertificate(watched.current, watched)


def serve_identity(identity: Identity, client_ca_path: str = "") -> ServedCertificate:
    """Serve with a certificate that stays; raises `TLSUnusable`.

    The bundle of authorities, if there is one, may change.
    """

    def load() -> Served:
        return Served(identity, client_ca_path)

    if not client_ca_path:
        return ServedCertificate(load())
    watched = Watched("The authorities of clients", [client_ca_path], load, TLSUnusable)
    return ServedCertificate(watched.current, watched)


def notice(expires: datetime, now: datetime, said: int | None) -> int | None:
    """Tell which of `NOTICES` is due, when `said` was the last; `None` if none is."""
    left = expires - now
    due = min((days for days in NOTICES if left <= timedelta(days=days)), default=None)
    return due if due is not None and (said is None or due < said) else None


class ExpiryNotices(Service):
    """Says when the certificate that is served is about to end."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, served: ServedCertificate, now: Callable[[], datetime]
    ) -> None:
        """`now` gives the time with its zone."""
        self._served = served
        self._now = now
        self._identity = served.identity
        self._said: int | None = None
        self._loop = periodic(clock, self._look)

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._loop.start(_PERIOD)

    def stopService(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()
        super().stopService()

    def _look(self) -> None:
        if self._served.identity is not self._identity:
            self._identity, self._said = self._served.identity, None
        expires, now = self._identity.expires, self._now()
        due = notice(expires, now, self._said)
        if due is None:
            return
        self._said = due
        if due == 0:
            self._log.error(
                "The certificate has expired on {expires}: clients won't trust hbtd any more.",
                expires=expires.isoformat(),
            )
        else:
            self._log.warn(
                "The certificate expires in {days} days or less, on {expires}.",
                days=max(1, math.ceil((expires - now) / timedelta(days=1))),
                expires=expires.isoformat(),
            )
