"""The certificate that hbtd presents as a TLS server; its file can be replaced while hbtd runs."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from cryptography.x509 import Certificate
from OpenSSL import SSL

from hbtd.net.chains import Expiring, expiring_chain
from hbtd.net.revocation import ClientTrust, Revoked, load_client_trust
from hbtd.net.tls import (
    Identity,
    TLSUnusable,
    describe_identity,
    load_identity,
    read_record_by_record,
    server_context,
)
from hbtd.runtime.watched_files import WatchedFiles


class ServedCertificate:
    """The certificate that hbtd presents to clients, on TLS connections made by `accept`.

    When the certificate changes, existing connections keep the previous one.
    """

    def __init__(
        self,
        identity: Identity | WatchedFiles[Identity],
        clients: WatchedFiles[ClientTrust] | None = None,
        *,
        required: bool = False,
    ) -> None:
        """Present `identity`, and accept client certificates as `clients` says.

        Without `clients`, clients are not asked for a certificate. With `clients`, they may present
        one and, if `required` is true, they must.
        """
        self._identity = identity
        self._clients = clients
        self._required = required
        self.watched: list[WatchedFiles[Any]] = [
            each for each in (identity, clients) if isinstance(each, WatchedFiles)
        ]
        """The files to be read again when they change; the caller gives them to a `FileWatcher`."""
        self._make_context()
        for each in self.watched:
            each.on_change(self._make_context)

    @property
    def identity(self) -> Identity:
        """The certificate chain and key for new connections."""
        return (
            self._identity.current if isinstance(self._identity, WatchedFiles) else self._identity
        )

    def presented(self) -> Iterator[tuple[str, Certificate]]:
        """Yield one pair: the name `served`, and the certificate for new connections."""
        yield "served", self.identity.chain[0]

    def expiring(self) -> Iterator[Expiring]:
        """Yield the certificates and revocation lists in use, for `ExpiryNotices`."""
        yield from expiring_chain(
            self.identity.chain,
            "hbtd's certificate",
            "clients no longer trust hbtd. Renew it.",
            "clients",
        )
        if self._clients is not None:
            yield from self._clients.current.expiring()

    def next_update(self) -> datetime | None:
        """Return the earliest time at which one of the revocation lists expires.

        Return `None` if there are no lists.
        """
        return None if self._clients is None else self._clients.current.next_update

    def on_new_authorities(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the authorities of client certificates have changed."""

        def compare(before: ClientTrust, now: ClientTrust) -> None:
            if now.authorities != before.authorities:
                listener()

        self._on_new_trust(compare)

    def on_revoked(self, listener: Callable[[Revoked], None]) -> None:
        """Call `listener` with the newly revoked certificates whenever certificates are revoked."""

        def compare(before: ClientTrust, now: ClientTrust) -> None:
            newly = now.revoked - before.revoked
            if newly:
                listener(newly)

        self._on_new_trust(compare)

    def accept(self, socket: Any) -> SSL.Connection:
        """Return a server-side TLS connection on `socket`, before its handshake."""
        connection = SSL.Connection(self._context, socket)
        connection.set_accept_state()
        read_record_by_record(connection)
        return connection

    def _on_new_trust(self, listener: Callable[[ClientTrust, ClientTrust], None]) -> None:
        """Call `listener` with what was accepted before, and what is now, whenever it is read."""
        clients = self._clients
        if clients is None:
            return
        known = clients.current

        def compare() -> None:
            nonlocal known
            before, known = known, clients.current
            listener(before, known)

        clients.on_change(compare)

    def _make_context(self) -> None:
        trust = self._clients.current if self._clients is not None else ClientTrust(())
        self._context = server_context(
            self.identity, trust.authorities, trust.lists, required=self._required
        )


class ClientFiles(NamedTuple):
    """Whether clients present certificates, and the files by which these are verified."""

    authorities: str = ""
    """The path of a PEM bundle of the authorities of clients; empty to ask for no certificates."""
    revocation_lists: str = ""
    """The path of a PEM file with the authorities' revocation lists; empty if there is none."""
    required: bool = False
    """Whether clients must present a certificate."""


NOBODY = ClientFiles()
"""The `ClientFiles` of servers that ask no client for a certificate."""


def serve_files(cert_path: str, key_path: str, clients: ClientFiles = NOBODY) -> ServedCertificate:
    """Return a served certificate that is read from PEM files.

    These files, and those of `clients`, are read again when they change. Raise `TLSUnusable` if a
    file can't be used.
    """
    identity = WatchedFiles(
        f"The certificate in --tls_cert={cert_path} and its key in --tls_key={key_path}",
        [cert_path, key_path],
        lambda: load_identity(cert_path, key_path),
        TLSUnusable,
        describe=describe_identity,
    )
    return ServedCertificate(identity, _watched_clients(clients), required=clients.required)


def serve_identity(identity: Identity, clients: ClientFiles = NOBODY) -> ServedCertificate:
    """Return a served certificate that does not change.

    The files of `clients`, however, are read again when they change. Raise `TLSUnusable` if one of
    these files can't be used.
    """
    return ServedCertificate(identity, _watched_clients(clients), required=clients.required)


def _watched_clients(clients: ClientFiles) -> WatchedFiles[ClientTrust] | None:
    authorities, lists = clients.authorities, clients.revocation_lists
    if not authorities:
        return None
    # Together, so that a new authority is not accepted without its list, whichever comes first.
    what = f"The authorities in --tls_client_ca={authorities}"
    if lists:
        what += f" and their revocation lists in --tls_client_crl={lists}"
    return WatchedFiles(
        what,
        [authorities, *filter(None, [lists])],
        lambda: load_client_trust(authorities, lists),
        TLSUnusable,
        describe=ClientTrust.describe,
    )
