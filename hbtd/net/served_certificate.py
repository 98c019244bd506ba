"""The certificate that hbtd serves with: reloading it, and warning before it expires."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.net.tls import (
    Identity,
    TLSUnusable,
    load_authorities,
    load_identity,
    read_record_by_record,
    server_context,
)
from hbtd.runtime.periodic import PeriodicService
from hbtd.runtime.watched_files import WatchedFiles

NOTICES = (30, 7, 1, 0)
"""Days before the expiry of the served certificate at which a line is logged; 0: after it."""

_PERIOD = 600.0
"""Seconds between two checks of the expiry."""


class ServedCertificate:
    """The certificate that hbtd presents on new TLS connections, which `accept` makes.

    When the certificate changes, existing connections keep the one that they began with.
    """

    def __init__(
        self,
        identity: Identity | WatchedFiles[Identity],
        authorities: WatchedFiles[list[Certificate]] | None = None,
    ) -> None:
        """Serve with `identity`; clients may present certificates signed by `authorities`."""
        self._identity = identity
        self._authorities = authorities
        self.watched: list[WatchedFiles[Any]] = [
            each for each in (identity, authorities) if isinstance(each, WatchedFiles)
        ]
        """The watched files, if any, that the certificate and the authorities are read from."""
        self._make_context()
        for each in self.watched:
            each.on_change(self._make_context)

    @property
    def identity(self) -> Identity:
        """The certificate chain and the key that new connections are served with."""
        return (
            self._identity.current if isinstance(self._identity, WatchedFiles) else self._identity
        )

    def on_new_authorities(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the authorities of client certificates have changed."""
        authorities = self._authorities
        if authorities is None:
            return
        known = authorities.current

        def compare() -> None:
            nonlocal known
            before, known = known, authorities.current
            if known != before:
                listener()

        authorities.on_change(compare)

    def accept(self, socket: Any) -> SSL.Connection:
        """Return a TLS connection on a client's socket, before its handshake."""
        connection = SSL.Connection(self._context, socket)
        connection.set_accept_state()
        read_record_by_record(connection)
        return connection

    def _make_context(self) -> None:
        authorities = self._authorities.current if self._authorities is not None else ()
        self._context = server_context(self.identity, authorities)


def serve_files(cert_path: str, key_path: str, client_ca_path: str = "") -> ServedCertificate:
    """Return a served certificate from PEM files, which are read again when they change.

    `client_ca_path`, if given, is the path of a PEM bundle of authorities: clients may then present
    certificates that one of these has issued. Raise `TLSUnusable` if a file can't be used.
    """
    identity = WatchedFiles(
        "The certificate and key",
        [cert_path, key_path],
        lambda: load_identity(cert_path, key_path),
        TLSUnusable,
    )
    return ServedCertificate(identity, _watched_authorities(client_ca_path))


def serve_identity(identity: Identity, client_ca_path: str = "") -> ServedCertificate:
    """Return a served certificate that does not change.

    `client_ca_path`, if given, is the path of a PEM bundle of authorities: clients may then present
    certificates that one of these has issued. The bundle is read again when it changes. Raise
    `TLSUnusable` if the bundle can't be used.
    """
    return ServedCertificate(identity, _watched_authorities(client_ca_path))


def _watched_authorities(path: str) -> WatchedFiles[list[Certificate]] | None:
    if not path:
        return None
    what = "The authorities of clients"
    return WatchedFiles(what, [path], lambda: load_authorities(path), TLSUnusable)


def due_notice(expires: datetime, now: datetime, last: int | None) -> int | None:
    """Return which of `NOTICES` is due, or `None` if none is; `last` is the one logged last."""
    left = expires - now
    due = min((days for days in NOTICES if left <= timedelta(days=days)), default=None)
    return due if due is not None and (last is None or due < last) else None


class ExpiryNotices(PeriodicService):
    """Logs when the served certificate is about to expire, and when it has."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, served: ServedCertificate, now: Callable[[], datetime]
    ) -> None:
        """Make a check of the served certificate that runs every ten minutes of `clock`.

        `now` returns the current date and time, with a time zone.
        """
        super().__init__(clock, _PERIOD, self._check, "the check of the certificate's expiry")
        self._served = served
        self._utcnow = now
        self._identity = served.identity
        self._last: int | None = None

    def _check(self) -> None:
        if self._served.identity is not self._identity:
            self._identity, self._last = self._served.identity, None
        expires, now = self._identity.expires, self._utcnow()
        due = due_notice(expires, now, self._last)
        if due is None:
            return
        self._last = due
        if due == 0:
            self._log.error(
                "hbtd's certificate expired on {expires}; clients no longer trust hbtd. Renew it.",
                expires=expires.isoformat(),
            )
        else:
            self._log.warn(
                "hbtd's certificate expires on {expires}, in at most {days} days.",
                days=max(1, math.ceil((expires - now) / timedelta(days=1))),
                expires=expires.isoformat(),
            )
