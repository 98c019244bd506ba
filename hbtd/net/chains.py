"""Certificate chains: whether they are valid, and when their certificates expire."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.x509 import Certificate, Name

_LONGEST_NAME = 100
"""The most characters of a certificate's subject in a message."""


class Validity(NamedTuple):
    """The period of validity of a certificate revocation list.

    The attributes have the same names as those of `cryptography.x509.Certificate`.
    """

    not_valid_before_utc: datetime
    not_valid_after_utc: datetime


class Expiring(NamedTuple):
    """A certificate, or a certificate revocation list, with the texts to log about its expiry."""

    certificate: Certificate | Validity
    what: str
    """A description of the certificate or revocation list, as the beginning of a sentence."""
    consequence: str
    """The consequence of the expiry, and what to do about it, as the end of a sentence."""
    severe: bool = True
    """Whether the expiry affects all connections, not only those that need this certificate."""
    early: bool = True
    """Whether to log notices days before the expiry; false if renewals are daily or hourly."""


class Fault(NamedTuple):
    """The reason why clients would not trust a certificate chain."""

    place: int
    """The index of the faulty certificate in the chain, from 0."""
    why: str
    """What is wrong with the certificate, as the end of a sentence."""


def find_fault(chain: Sequence[Certificate], now: datetime) -> Fault | None:
    """Return why clients would not trust a chain now; `None` if they would.

    The first certificate must be valid; the others are issuers. A client needs only the issuers up
    to the first one that it trusts, and hbtd does not know which one that is. So a chain may end in
    certificates that are not valid now, such as an old root that signed the new root: clients with
    the new root don't need the old one. But an invalid certificate is a fault if it is the only
    link to a later, valid certificate.

    A certificate that has issued none of the certificates before it is a fault, too: it belongs to
    another chain, and the certificate that clients need is probably missing.
    """
    for index in range(1, len(chain)):
        if not any(_issued(chain[index], each) for each in chain[:index]):
            invalidity = _invalidity(chain[index], now)
            also = f", and {invalidity}" if invalidity else ""
            return Fault(index, f"has issued none of those before it{also}")
    faults: list[Fault | None] = [None] * len(chain)
    unneeded = [False] * len(chain)
    for index in reversed(range(len(chain))):
        issuers = [
            each for each in range(index + 1, len(chain)) if _issued(chain[each], chain[index])
        ]
        above = [faults[each] for each in issuers if not unneeded[each]]
        invalidity = _invalidity(chain[index], now)
        if invalidity:
            faults[index] = Fault(index, invalidity)
            unneeded[index] = not above
        elif len(above) == len(issuers) and None not in above:
            faults[index] = next(iter(above), None)
    return faults[0]


def describe(certificate: Certificate) -> str:
    """Return the name of a certificate's subject, in the form that `describe_name` returns."""
    return describe_name(certificate.subject)


def describe_name(distinguished: Name) -> str:
    """Return a distinguished name, of a subject or an issuer, as text.

    A text of more than 100 characters is cut, and ends with `...`.
    """
    name = distinguished.rfc4514_string()
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."


def expiring_chain(
    chain: Sequence[Certificate], what: str, consequence: str, doubting: str
) -> Iterator[Expiring]:
    """Yield the certificates of a chain, each with the texts of the log lines about its expiry.

    `what` describes the first certificate, and `consequence` says what follows from its expiry (see
    `Expiring`). `doubting` names those who would no longer trust the chain, such as "clients".
    """
    own, *issuers = chain
    yield Expiring(own, what, consequence)
    for number, issuer in enumerate(issuers, 2):
        yield Expiring(
            issuer,
            f"Certificate {number} in the chain of {what} ({describe(issuer)})",
            f"{doubting} that don't have a newer one in its place no longer trust hbtd."
            " Renew it, or leave it out.",
            severe=False,
        )


def expiring_authorities(
    authorities: Sequence[Certificate], option: str, consequence: str
) -> Iterator[Expiring]:
    """Yield the authorities in a bundle, each with the texts of the log lines about its expiry.

    `option` is the name of the option that gives the bundle; `consequence` says what follows from
    the expiry of one of the authorities (see `Expiring`).
    """
    for authority in authorities:
        what = f"The authority {describe(authority)} in {option}"
        yield Expiring(authority, what, consequence, severe=len(authorities) == 1)


def _issued(issuer: Certificate, certificate: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _invalidity(certificate: Certificate, now: datetime) -> str:
    """Return why a certificate is not valid, as the end of a sentence.

    Return an empty text if the certificate is valid.
    """
    begins, expires = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begins > now:
        return f"is not valid before {begins.isoformat()}"
    return f"expired on {expires.isoformat()}" if expires < now else ""
