"""The certificate that hbtd serves with, and reloading it."""

from collections.abc import Callable, Iterator
from typing import Any

from cryptography.x509 import Certificate
from OpenSSL import SSL

from hbtd.net.chains import Expiring, expiring_authorities, expiring_chain
from hbtd.net.tls import (
    Identity,
    TLSUnusable,
    describe_authorities,
    describe_identity,
    load_authorities,
    load_identity,
    read_record_by_record,
    server_context,
)
from hbtd.runtime.watched_files import WatchedFiles


class ServedCertificate:
    """The certificate that hbtd presents on new TLS connections, which `accept` makes.

    When the certificate changes, existing connections keep the one that they began with.
    """

    def __init__(
        self,
        identity: Identity | WatchedFiles[Identity],
        authorities: WatchedFiles[list[Certificate]] | None = None,
    ) -> None:
        """Serve with `identity`; clients may present certificates that `authorities` have issued.

        Without `authorities`, clients are not asked for a certificate.
        """
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

    def presented(self) -> Iterator[tuple[str, Certificate]]:
        """Yield the name `served` and the certificate that new connections are served with."""
        yield "served", self.identity.chain[0]

    def expiring(self) -> Iterator[Expiring]:
        """Yield the certificates in use, for `ExpiryNotices`."""
        yield from expiring_chain(
            self.identity.chain,
            "hbtd's certificate",
            "clients no longer trust hbtd. Renew it.",
            "clients",
        )
        if self._authorities is not None:
            yield from expiring_authorities(
                self._authorities.current,
                "--tls_client_ca",
                "clients that it certifies can't connect. Renew it.",
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
        f"The certificate in --tls_cert={cert_path} and its key in --tls_key={key_path}",
        [cert_path, key_path],
        lambda: load_identity(cert_path, key_path),
        TLSUnusable,
        describe=describe_identity,
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
    return WatchedFiles(
        f"The authorities in --tls_client_ca={path}",
        [path],
        lambda: load_authorities(path),
        TLSUnusable,
        describe=describe_authorities,
    )
