"""Peers: the other ends of connections, known by address and client certificate."""

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from cryptography import x509
from OpenSSL import crypto
from twisted.internet import address

from hbtd.formats.xnames import parse

_HEARTBEAT_ID = re.compile(
    r"spiffe://([a-z0-9._-]+)/[A-Za-z0-9._-]+(?:/([A-Za-z0-9._-]+))?/workload/heartbeat"
)


_UNREADABLE = (
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""Exceptions of the package cryptography for some certificates that OpenSSL accepts."""


class SpiffeID(NamedTuple):
    """The SPIFFE ID of a heartbeat agent."""

    component: str | None
    """The xname, in normal form, of the component whose heartbeats the agent may send.

    `None` if the agent may send heartbeats of every component.
    """
    trust_domain: str
    """The trust domain, which is the host part of the ID (the standard SPIFFE-ID, section 2.1)."""


def parse_spiffe_id(text: str) -> SpiffeID | None:
    """Parse a SPIFFE ID: `spiffe://<domain>/<type>[/<xname>]/workload/heartbeat`.

    Return `None` for any other text.
    """
    match = _HEARTBEAT_ID.fullmatch(text)
    if match is None:
        return None
    domain, named = match.groups()
    if named is None:
        return SpiffeID(None, domain)
    component = parse(named)
    return None if component is None else SpiffeID(component, domain)


class ClientCertificate(NamedTuple):
    """The content of a client certificate that was verified during the TLS handshake."""

    common_name: str | None
    """The common name; `None` unless the certificate has exactly one."""
    components: frozenset[str]
    """The components whose heartbeats the certificate's owner may send: xnames in normal form."""
    expires: float
    """When the certificate expires, in seconds since the epoch.

    The connection on which the certificate was presented may stay open after that.
    """


class Peer(NamedTuple):
    """The other end of a connection, and what the connection proves about this end."""

    host: str
    """The peer's name in log lines: its IP address, or `a Unix socket`; see `host_of`."""
    local: bool = False
    """Whether the peer is on this host: at a loopback address or a Unix socket."""
    certificate: ClientCertificate | None = None
    """The client certificate that the peer has presented; `None` without such a certificate."""
    unix: bool = False
    """Whether the peer is at a Unix socket, which no web page can reach."""


class Peers:
    """The peers of all open connections; each is identified once and then remembered."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, Peer] = WeakKeyDictionary()

    def of(self, transport: Any) -> Peer:
        """Return the peer of a transport on which a request has arrived."""
        peer = self._known.get(transport)
        if peer is None:
            peer = self._known[transport] = identify_peer(transport)
        return peer


def identify_peer(transport: Any) -> Peer:
    """Return the peer of a transport whose TLS handshake, if it needs one, is complete."""
    where = transport.getPeer()
    host = host_of(where)
    unix = isinstance(where, address.UNIXAddress)
    certificate = getattr(transport, "getPeerCertificate", lambda: None)()
    shown = None if certificate is None else read_certificate(certificate)
    return Peer(host, unix or is_loopback(host), shown, unix)


def host_of(where: Any) -> str:
    """Return the text that log lines show for an `IAddress`: its IP address, or `a Unix socket`.

    An IPv4-mapped IPv6 address is returned as an IPv4 address.
    """
    if isinstance(where, address.UNIXAddress):
        return "a Unix socket"
    return _unmapped(str(getattr(where, "host", where)))


def is_loopback(host: str) -> bool:
    """Return whether a text is a loopback address: of IPv4, IPv6, or IPv4 mapped to IPv6."""
    try:
        return ip_address(_unmapped(host)).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def _unmapped(host: str) -> str:
    """Return an IPv4-mapped IPv6 address, which dual-stack sockets report, as an IPv4 address.

    Return any other text unchanged.
    """
    try:
        found = ip_address(host)
    except ValueError:
        return host
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return host if mapped is None else str(mapped)


def read_certificate(presented: crypto.X509) -> ClientCertificate:
    """Return the content of a client certificate that was verified in the TLS handshake.

    If the names in the certificate can't be read, the result has no names. If the expiry date can't
    be read, the result is an expired certificate.
    """
    expires = 0.0
    try:
        certificate = presented.to_cryptography()
        expires = certificate.not_valid_after_utc.timestamp()
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        common_name = str(names[0].value) if len(names) == 1 else None
        components = _components(certificate, common_name)
    except _UNREADABLE:
        return ClientCertificate(None, frozenset(), expires)
    return ClientCertificate(common_name, components, expires)


def _components(certificate: x509.Certificate, common_name: str | None) -> frozenset[str]:
    """Return the components that a certificate names: by common name, DNS name or SPIFFE ID."""
    found = {parse(common_name)} if common_name else set()
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    found |= {parse(name.partition(".")[0]) for name in names.get_values_for_type(x509.DNSName)}
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        spiffe_id = parse_spiffe_id(uri)
        # An ID without a component, which stands for every component, is ignored: no certificate
        # gives so many rights.
        if spiffe_id is not None:
            found.add(spiffe_id.component)
    return frozenset(component for component in found if component is not None)
