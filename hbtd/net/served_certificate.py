"""The certificate that hbtd serves with: replaced while it serves, and its end told in time."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from hbtd.net.tls import Identity, TLSUnusable, load_authorities, load_identity, server_options
from hbtd.runtime.periodic import periodic
from hbtd.runtime.watched_files import WatchedFiles

NOTICES = (30, 7, 1, 0)
"""Days before a certificate's end at which that is said; 0: it is over."""

_PERIOD = 600.0
"""Seconds between two looks at how long a certificate is still good."""


@implementer(IOpenSSLServerConnectionCreator)
class ServedCertificate:
    """Makes connections, each with the certificate that is served when it comes in.

    Connections that are there already go on with theirs.
    """

    def __init__(
        self,
        identity: Identity | WatchedFiles[Identity],
        authorities: WatchedFiles[list[Certificate]] | None = None,
    ) -> None:
        """With `authorities`, clients may present certificates that these have signed."""
        self._identity = identity
        self._authorities = authorities
        self.watched: list[WatchedFiles[Any]] = [
            each for each in (identity, authorities) if isinstance(each, WatchedFiles)
        ]
        """The files that these come from, as far as they do."""
        self._make_context()
        for each in self.watched:
            each.on_change(self._make_context)

    @property
    def identity(self) -> Identity:
        """The certificate that new connections get."""
        return (
            self._identity.current if isinstance(self._identity, WatchedFiles) else self._identity
        )

    def on_new_authorities(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever other authorities count for clients than before."""
        authorities = self._authorities
        if authorities is None:
            return
        counted = authorities.current

        def look() -> None:
            nonlocal counted
            before, counted = counted, authorities.current
            if counted != before:
                listener()

        authorities.on_change(look)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make one connection."""
        return SSL.Connection(self._context, None)

    def _make_context(self) -> None:
        authorities = self._authorities.current if self._authorities is not None else ()
        self._context = server_options(self.identity, authorities).getContext()


def serve_files(cert_path: str, key_path: str, client_ca_path: str = "") -> ServedCertificate:
    """Serve with a certificate and its key from files, which may change; raises `TLSUnusable`.

    With a bundle of authorities, which may change, too, clients may present certificates that
    these have signed.
    """
    identity = WatchedFiles(
        "The certificate and key",
        [cert_path, key_path],
        lambda: load_identity(cert_path, key_path),
        TLSUnusable,
    )
    return ServedCertificate(identity, _watched_authorities(client_ca_path))


def serve_identity(identity: Identity, client_ca_path: str = "") -> ServedCertificate:
    """Serve with a certificate that stays; raises `TLSUnusable`.

    The bundle of authorities, if there is one, may change.
    """
    return ServedCertificate(identity, _watched_authorities(client_ca_path))


def _watched_authorities(path: str) -> WatchedFiles[list[Certificate]] | None:
    if not path:
        return None
    what = "The authorities of clients"
    return WatchedFiles(what, [path], lambda: load_authorities(path), TLSUnusable)


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
