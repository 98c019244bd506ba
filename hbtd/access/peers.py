"""Peers: what a connection itself says about who is at its other end."""

import re
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from cryptography import x509
from OpenSSL import crypto
from twisted.internet import address

from hbtd.formats.xnames import parse

_HEARTBEAT_ID = re.compile(
    r"spiffe://[a-z0-9._-]+/[A-Za-z0-9._-]+(?:/([A-Za-z0-9._-]+))?/workload/heartbeat"
)


_ODD = (
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What reading a certificate raises of which OpenSSL thinks less badly."""


class SpiffeID(NamedTuple):
    """What a SPIFFE id allows its bearer to be: this component, or `None`: any."""

    component: str | None


def parse_spiffe_id(text: str) -> SpiffeID | None:
    """Read `spiffe://<domain>/<type>[/<xname>]/workload/heartbeat`; `None` for anything else."""
    match = _HEARTBEAT_ID.fullmatch(text)
    if match is None:
        return None
    if match[1] is None:
        return SpiffeID(None)
    component = parse(match[1])
    return None if component is None else SpiffeID(component)


class CertificateNames(NamedTuple):
    """What a client certificate says; it was checked when the connection was made."""

    common_name: str | None
    """Its common name, if it has exactly one."""
    components: frozenset[str]
    """The components that it may speak for, in normal form."""
    expires: float
    """When it ends, in seconds since the epoch: a connection may last longer."""


class Peer(NamedTuple):
    """The other end of a connection."""

    host: str
    """Its address, for people."""
    local: bool = False
    """Whether it is on this host: on a loopback address or a Unix socket."""
    certificate: CertificateNames | None = None
    """What its certificate says, if it has presented one."""


class Peers:
    """Finds the peers of connections, once for each connection."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, Peer] = WeakKeyDictionary()

    def of(self, transport: Any) -> Peer:
        """Tell who is at the other end of a transport on which a request has come in."""
        peer = self._known.get(transport)
        if peer is None:
            peer = self._known[transport] = find_peer(transport)
        return peer


def find_peer(transport: Any) -> Peer:
    """Find out who is at the other end of a transport whose TLS handshake, if any, is done."""
    where = transport.getPeer()
    host = host_of(where)
    local = isinstance(where, address.UNIXAddress) or is_loopback(host)
    certificate = getattr(transport, "getPeerCertificate", lambda: None)()
    return Peer(host, local, None if certificate is None else read_certificate(certificate))


def host_of(where: Any) -> str:
    """Write the host of an `IAddress`, for people."""
    if isinstance(where, address.UNIXAddress):
        return "a Unix socket"
    return _unmapped(str(getattr(where, "host", where)))


def is_loopback(host: str) -> bool:
    """Tell whether an IP address is one of this host's loopback, be it mapped into IPv6."""
    try:
        return ip_address(_unmapped(host)).is_loopback
    except ValueError:
        return False


def _unmapped(host: str) -> str:
    """Write an IPv4 address that is mapped into IPv6, as a socket for both gives it, as IPv4."""
    try:
        found = ip_address(host)
    except ValueError:
        return host
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return host if mapped is None else str(mapped)


def read_certificate(presented: crypto.X509) -> CertificateNames:
    """Read a certificate that is trusted; of one that is odd, no more than can be understood.

    One of which not even the time can be is good for nothing: it has expired long ago.
    """
    expires = 0.0
    try:
        certificate = presented.to_cryptography()
        expires = certificate.not_valid_after_utc.timestamp()
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        common_name = str(names[0].value) if len(names) == 1 else None
        components = _components(certificate, common_name)
    except _ODD:
        return CertificateNames(None, frozenset(), expires)
    return CertificateNames(common_name, components, expires)


def _components(certificate: x509.Certificate, common_name: str | None) -> frozenset[str]:
    """Find the components that a certificate names: by CN, DNS name or SPIFFE id."""
    found = {parse(common_name)} if common_name else set()
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    found |= {parse(name.partition(".")[0]) for name in names.get_values_for_type(x509.DNSName)}
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        spiffe_id = parse_spiffe_id(uri)
        # One without a component would speak for all: too much for a certificate.
        if spiffe_id is not None:
            found.add(spiffe_id.component)
    return frozenset(component for component in found if component is not None)
