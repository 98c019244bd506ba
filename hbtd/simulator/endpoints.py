"""Client endpoints for the URLs to which fleets send heartbeats."""

from urllib.parse import SplitResult, urlsplit

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IReactorPluggableNameResolver, IStreamClientEndpoint

from hbtd.net.tls import client_policy


def split_url(url: str) -> SplitResult:
    """Return the parts of a base URL.

    Raise `ValueError` unless the URL has the scheme `http` or `https`, and a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("not an http or https URL with a host")
    return parts


def client_endpoint(
    reactor: IReactorPluggableNameResolver, url: str, trust: str = "insecure"
) -> IStreamClientEndpoint:
    """Return an endpoint that connects to a URL's host, over TLS if the scheme is https.

    `trust` says which servers are trusted: `insecure` for all servers, `system` for those with a
    certificate of the operating system's authorities, or the path of a PEM bundle of authorities.
    Raise `ValueError` if the URL can't be used, and `TLSUnusable` if the bundle can't be used.
    """
    parts = split_url(url)
    host = parts.hostname
    assert host is not None
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    endpoint = HostnameEndpoint(reactor, host, port)
    if not secure:
        return endpoint
    creator = client_policy(trust).creatorForNetloc(host.encode("ascii"), port)
    return wrapClientTLS(creator, endpoint)
