"""The authorities of client certificates, and their certificate revocation lists (RFC 5280)."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import Certificate, CertificateRevocationList
from OpenSSL import crypto

from hbtd.formats.counts import counted
from hbtd.net.chains import Expiring, Validity, describe, describe_name, expiring_authorities
from hbtd.net.tls import TLSUnusable, describe_authorities, load_authorities, read_pem

Revoked = frozenset[tuple[bytes, int]]
"""Revoked certificates, each given as the pair of its issuer's name and its serial number.

The name is in the form that `Name.public_bytes` returns.
"""

_LARGEST = 1024 * 1024
"""The most bytes of a file: some 20,000 revoked certificates, which take 0.4 s to read."""

_BEGIN = b"-----BEGIN "
_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_DER = b"\x30"
"""The first byte of a revocation list that is not PEM."""

_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)


class ClientTrust:
    """The authorities that may certify clients, with their revocation lists if any are used."""

    def __init__(
        self,
        authorities: Sequence[Certificate],
        lists: Sequence[CertificateRevocationList] = (),
    ) -> None:
        self.authorities = authorities
        self.lists = lists
        """The revocation lists; if there are any, each authority must have one."""

    @cached_property
    def revoked(self) -> Revoked:
        """The certificates that are revoked by any of the revocation lists."""
        return frozenset(
            (issuer, entry.serial_number)
            for each in self.lists
            for issuer in [each.issuer.public_bytes()]
            for entry in each
        )

    def check_complete(self, authorities_path: str, lists_path: str) -> None:
        """Raise `TLSUnusable` if an authority that has not expired has issued none of the lists.

        `authorities_path` and `lists_path` are the paths of the two files, for the message.
        """
        now = datetime.now(timezone.utc)
        for authority in self.authorities:
            listed = any(_issued(authority, each) for each in self.lists)
            if not listed and authority.not_valid_after_utc >= now:
                raise TLSUnusable(
                    f"{lists_path} holds no revocation list that {describe(authority)} has issued,"
                    f" an authority in {authorities_path}: nobody whom it certifies could connect"
                )

    def describe(self) -> str:
        """Return a phrase, for the log, about the authorities and the revocation lists."""
        phrase = describe_authorities(self.authorities)
        if self.lists:
            revoked = counted(len(self.revoked), "certificate")
            phrase += f"; {counted(len(self.lists), 'revocation list')}, {revoked} revoked"
        return phrase

    @property
    def next_update(self) -> datetime | None:
        """The earliest time at which one of the revocation lists expires (`nextUpdate`).

        It is `None` if there are no lists.
        """
        times = (each.next_update_utc for each in self.lists)
        return min((each for each in times if each is not None), default=None)

    def expiring(self) -> Iterator[Expiring]:
        """Yield the authorities and the revocation lists, for `ExpiryNotices`."""
        yield from expiring_authorities(
            self.authorities,
            "--tls_client_ca",
            "clients that it certifies can't connect. Renew it.",
        )
        yield from self.expiring_lists()

    def expiring_lists(self) -> Iterator[Expiring]:
        """Yield the revocation lists, for `ExpiryNotices`.

        Nothing is logged about a list before it has expired.
        """
        for each in self.lists:
            if each.next_update_utc is not None:
                yield Expiring(
                    Validity(_begin(each), each.next_update_utc),
                    f"The revocation list of {describe_name(each.issuer)} in --tls_client_crl",
                    "it stays in force, but certificates that have been revoked since then are"
                    " accepted. Renew it.",
                    early=False,
                )


def load_client_trust(authorities_path: str, lists_path: str = "") -> ClientTrust:
    """Read a PEM bundle of authorities and, if `lists_path` is given, their revocation lists.

    Raise `TLSUnusable` if a file can't be used, or if an authority that has not expired has no
    revocation list: each certificate that it has issued would be refused. A revocation list that
    has expired can be used (see `verify_certificate` in `hbtd.net.handshakes`).
    """
    authorities = load_authorities(authorities_path)
    if not lists_path:
        return ClientTrust(authorities)
    trust = ClientTrust(authorities, load_revocation_lists(lists_path))
    trust.check_complete(authorities_path, lists_path)
    return trust


def load_revocation_lists(path: str) -> list[CertificateRevocationList]:
    """Return the certificate revocation lists in a PEM file; there must be at least one.

    Raise `TLSUnusable` if the file can't be read, is larger than 1 MiB or contains anything else in
    PEM, or if one of the lists is damaged, is not valid yet or has only changes (a delta CRL).
    """
    content = read_pem(path)
    if len(content) > _LARGEST:
        raise TLSUnusable(f"{path} is larger than {_LARGEST} bytes")
    blocks = _BLOCK.findall(content)
    try:
        lists = [x509.load_pem_x509_crl(each) for each in blocks]
        deltas = [_is_delta(each) for each in lists]
        # Each entry is read, so that a damaged one is found now.
        for each in lists:
            for entry in each:
                entry.serial_number  # noqa: B018
    except (*_UNREADABLE, x509.DuplicateExtension) as error:
        raise TLSUnusable(f"{path} holds a revocation list that can't be used: {error}") from error
    if not blocks or content.count(_BEGIN) != len(blocks):
        hint = "; convert it: openssl crl -inform DER" if content.startswith(_DER) else ""
        raise TLSUnusable(f"{path} holds no PEM revocation lists, or not only such{hint}")
    now = datetime.now(timezone.utc)
    for each, delta in zip(lists, deltas, strict=True):
        which = f"the revocation list of {describe_name(each.issuer)} in {path}"
        if delta:
            raise TLSUnusable(f"{which} has only changes (a delta CRL); a complete one is needed")
        if _begin(each) > now:
            raise TLSUnusable(f"{which} is not valid before {_begin(each).isoformat()}")
    return lists


def finder(revoked: Revoked) -> Callable[[Sequence[crypto.X509]], bool]:
    """Return a function that says whether a chain contains one of the certificates in `revoked`."""
    # Numbers are quick to compare: there may be a chain for each of ten thousand connections.
    serials = {serial for _, serial in revoked}

    def find(chain: Sequence[crypto.X509]) -> bool:
        return any(
            (each.to_cryptography().issuer.public_bytes(), serial) in revoked
            for each in chain
            if (serial := each.get_serial_number()) in serials
        )

    return find


def _begin(each: CertificateRevocationList) -> datetime:
    return each.last_update_utc


def _is_delta(each: CertificateRevocationList) -> bool:
    try:
        each.extensions.get_extension_for_class(x509.DeltaCRLIndicator)
    except x509.ExtensionNotFound:
        return False
    return True


def _issued(authority: Certificate, each: CertificateRevocationList) -> bool:
    if each.issuer != authority.subject:
        return False
    try:
        return each.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except _UNREADABLE:
        return False
