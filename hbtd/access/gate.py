"""The gate: identifies callers by their credentials, and decides what each caller may do.

There are two roles. A node may send heartbeats of its own component, may ask hbtd to forget that
component, and may say that it will be away. An operator may change parameters, set maintenance, and
do the latter two for any component. The fast lane and the ordinary lane ask the same `Gate`, which
refuses a request by raising an exception of `hbtd.access.refusals`.
"""

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from hbtd.access.jwt import InvalidToken, JWTVerifier, NoKeys, subject_of
from hbtd.access.peers import ClientCertificate, Peer, Peers
from hbtd.access.refusals import Forbidden, KeysUnavailable, Refused, Unauthenticated
from hbtd.access.tokens import Token, TokenFile
from hbtd.config.access_rules import NodeRules, OperatorRules

BEARER = 'Bearer realm="hbtd"'
CERTIFICATE = 'Certificate realm="hbtd"'

_SCHEME = b"bearer "

_MISDIRECTED = "Operators on hbtd's own host must name it in the Host header, as localhost"


class Credentials(NamedTuple):
    """The properties of a request, and of its connection, that may prove who sent the request."""

    peer: Peer
    """The other end of the connection."""
    authorization: bytes | None = None
    """The value of the `Authorization` header; `None` unless the request has exactly one."""
    relayed: bool = False
    """Whether a proxy forwarded the request or a web page caused it.

    If `True`, the peer's address does not prove who sent the request.
    """
    misdirected: bool = False
    """Whether the request's `Host` header names a host other than this one.

    If `True`, the peer's address does not prove who sent the request: a browser on this host may
    have sent it for the web page of an attacker, who makes the host name of the page resolve to
    this host (DNS rebinding).
    """


class Caller(NamedTuple):
    """An authenticated sender of requests, and its rights."""

    components: frozenset[str] = frozenset()
    """The components that the caller's credentials name, as xnames in normal form."""
    any_component: bool = False
    """Whether the caller may send heartbeats of every component."""
    operator: bool = False
    """Whether the gate has verified that the caller is an operator.

    `False` also if the gate has not checked whether the caller is an operator.
    """

    def check_beat(self, xname: str) -> None:
        """Raise `Forbidden` unless the caller may send heartbeats of the component `xname`.

        `xname` must be in normal form.
        """
        if not self.any_component and xname not in self.components:
            raise Forbidden("Only heartbeats of one's own component are taken")

    def check_forget(self, xname: str) -> None:
        """Raise `Forbidden` unless the caller may ask hbtd to forget the component `xname`.

        `xname` must be in normal form.
        """
        if not self.operator and xname not in self.components:
            raise Forbidden("Only operators may have another component forgotten")

    def check_away(self, xname: str) -> None:
        """Raise `Forbidden` unless the caller may say that the component `xname` will be away.

        `xname` must be in normal form.
        """
        if not self.operator and xname not in self.components:
            raise Forbidden("Only operators may say that another component will be away")


ANY_NODE = Caller(any_component=True)
"""The `Caller` that stands for every sender of heartbeats if nodes need no credentials."""

OPERATOR = Caller(operator=True)


class Authentication(NamedTuple):
    """The result of authenticating the sender of a heartbeat, and how long the result is valid.

    The result is valid only for requests with the same credentials on the same connection.
    """

    caller: Caller
    expires: float
    """When the first of the credentials expires, in seconds since the epoch.

    `inf` if the sender needs no credentials.
    """
    keys: object
    """The keys for verifying JWTs that were loaded at the time of the authentication.

    `None` if no keys were loaded then. Once other keys are loaded, the result of the authentication
    is no longer valid.
    """


class Gate:
    """Decides, by the rules in the parameters, who is an operator or node, and what each may do."""

    def __init__(
        self,
        operators: OperatorRules,
        nodes: NodeRules,
        now: Callable[[], float],
        operator_tokens: TokenFile | None = None,
        node_tokens: JWTVerifier | None = None,
    ) -> None:
        """Make a gate that applies the rules `operators` and `nodes`.

        `now` returns the seconds since the epoch. `operator_tokens` must be given if the rules name
        a token file, and `node_tokens` if they name a JWKS.
        """
        self._operators = operators
        self._nodes = nodes
        self._now = now
        self._operator_tokens = operator_tokens
        self._node_tokens = node_tokens
        self._node_challenges = _challenges(node_tokens is not None, nodes.certificates)
        self._operator_challenges = _challenges(operator_tokens is not None, bool(operators.names))

    @property
    def nodes_open(self) -> bool:
        """Whether every caller may send heartbeats, so that no credentials are needed."""
        return self._nodes.anyone

    def node(self, credentials: Credentials) -> Caller:
        """Return the authenticated sender of a heartbeat.

        Raise `Unauthenticated` or `KeysUnavailable`, as `authenticate` does.
        """
        return self.authenticate(credentials).caller

    def authenticate(self, credentials: Credentials) -> Authentication:
        """Authenticate the sender of a heartbeat, and return the result.

        The result may be used for later requests on the same connection with the same credentials,
        for as long as `still_holds` returns `True`.

        Raise `Unauthenticated` if there are no valid credentials. Raise `KeysUnavailable` if the
        only credential is a JWT that can't be verified, because no keys have been fetched yet.
        """
        verifier = self._node_tokens
        keys = None if verifier is None else verifier.keys
        if self._nodes.anyone:
            return Authentication(ANY_NODE, inf, keys)
        components: set[str] = set()
        authenticated = any_component = False
        expires = inf
        certificate = self._certificate(credentials.peer)
        if self._nodes.certificates and certificate is not None:
            authenticated = True
            components |= certificate.components
            expires = certificate.expires
        fault = "Credentials are needed"
        if verifier is not None and credentials.authorization is not None:
            try:
                verified = verifier.verify(_token(credentials.authorization))
            except InvalidToken as error:
                fault = f"Other credentials are needed: {error}"
            except NoKeys:
                if not authenticated:
                    detail = "There are no keys yet to check tokens with"
                    raise KeysUnavailable(detail) from None
            else:
                authenticated = True
                expires = min(expires, verified.expires)
                any_component = verified.subject.any_component
                if verified.subject.component is not None:
                    components.add(verified.subject.component)
        if not authenticated:
            raise Unauthenticated(fault, self._node_challenges)
        return Authentication(Caller(frozenset(components), any_component), expires, keys)

    def still_holds(self, authentication: Authentication) -> bool:
        """Return whether the result of an earlier call of `authenticate` may still be used.

        The result may be used until one of the credentials expires, or the keys for verifying JWTs
        change.
        """
        return self._now() < authentication.expires and (
            self._node_tokens is None or authentication.keys is self._node_tokens.keys
        )

    def operator(self, credentials: Credentials) -> Caller:
        """Return the sender of a request if it is an operator; raise an exception otherwise.

        Raise `Forbidden` in one of these cases:

        - The sender has a valid certificate or JWT, but not that of an operator.
        - According to the rules, only callers on this host are operators, so that no credentials
          could make the sender an operator.
        - Callers on this host are operators according to the rules, and the request comes from this
          host, but its `Host` header names another host (`Credentials.misdirected`).

        Raise `Unauthenticated` if the sender is not an operator for any other reason.
        """
        if self._is_operator(credentials):
            return OPERATOR
        if self._is_here(credentials):
            raise Forbidden(_MISDIRECTED)
        if not self._operator_challenges:
            raise Forbidden("Only operators, who are on hbtd's own host, may do this")
        if self._is_authenticated(credentials):
            raise Forbidden("Only operators may do this")
        detail = self._expiry(credentials) or "An operator's credentials are needed"
        raise Unauthenticated(detail, self._operator_challenges)

    def node_or_operator(self, credentials: Credentials) -> Caller:
        """Return the sender of a request about a component of its own: an operator or a node.

        Such requests are to forget the component, and to note that it will be away.

        If nodes need credentials, and the sender is neither an operator nor a node, raise
        `Unauthenticated` or `KeysUnavailable`, as `node` does. But raise `Forbidden` instead of
        `Unauthenticated` if callers on this host are operators according to the rules, and the
        request comes from this host, but its `Host` header names another host.

        If nodes need no credentials, no node can prove which component it is. Therefore only
        operators may make such requests: if the sender is not an operator, raise
        `Forbidden` or `Unauthenticated`, as `operator` does.
        """
        if self._is_operator(credentials):
            return OPERATOR
        if self._nodes.anyone:
            # Without credentials, no node can show that a component is its own.
            return self.operator(credentials)
        try:
            return self.node(credentials)
        except Unauthenticated as error:
            if self._is_here(credentials):
                raise Forbidden(_MISDIRECTED) from None
            challenges = dict.fromkeys((*error.challenges, *self._operator_challenges))
            detail = self._expiry(credentials) or str(error)
            raise Unauthenticated(detail, tuple(challenges)) from None

    def describe(self, credentials: Credentials) -> str:
        """Return a text for log lines that says what is proved about the sender of a request.

        The text names the operator's token, the certificate or the subject of the JWT, even if the
        sender has no right to make the request. If the request has none of these credentials, the
        text says whether it comes from this host, or through a proxy or web page.
        """
        token = self._operator_token(credentials)
        if token is not None:
            return token.describe("token" if self._is_valid(token) else "expired token")
        certificate = self._certificate(credentials.peer)
        if certificate is not None:
            return f"certificate {certificate.common_name or '(without one common name)'!r}"
        if self._verified(credentials):
            assert credentials.authorization is not None
            return f"JWT {subject_of(_token(credentials.authorization))!r}"
        if credentials.relayed:
            return "an unknown caller, through a proxy or web page"
        return "loopback" if credentials.peer.local else "an unknown caller"

    def _is_operator(self, credentials: Credentials) -> bool:
        rules = self._operators
        if rules.anyone or (self._is_here(credentials) and not credentials.misdirected):
            return True
        certificate = self._certificate(credentials.peer)
        if certificate is not None and certificate.common_name in rules.names:
            return True
        token = self._operator_token(credentials)
        return token is not None and self._is_valid(token)

    def _operator_token(self, credentials: Credentials) -> Token | None:
        """Return the operator's token in a request, expired or not; `None` if there is none."""
        if self._operator_tokens is None or credentials.authorization is None:
            return None
        try:
            return self._operator_tokens.find(_token(credentials.authorization))
        except InvalidToken:
            return None

    def _is_valid(self, token: Token) -> bool:
        return self._now() < token.expires

    def _expiry(self, credentials: Credentials) -> str:
        """Return the reason for refusing a request whose operator's token has expired.

        Return an empty text if the request has no operator's token, or one that is valid.
        """
        token = self._operator_token(credentials)
        if token is None or self._is_valid(token):
            return ""
        return "Other credentials are needed: the token has expired"

    def _is_here(self, credentials: Credentials) -> bool:
        """Return whether the caller is an operator because the request comes from this host.

        The rules for operators must include `loopback`, and no proxy or web page may have caused
        the request. Whether the request is addressed to another host (`Credentials.misdirected`) is
        not checked here.
        """
        return self._operators.loopback and credentials.peer.local and not credentials.relayed

    def _is_authenticated(self, credentials: Credentials) -> bool:
        """Return whether any valid certificate or JWT is presented, even one without rights."""
        return self._certificate(credentials.peer) is not None or self._verified(credentials)

    def _verified(self, credentials: Credentials) -> bool:
        """Return whether a valid JWT is presented, even one without rights."""
        if self._node_tokens is None or credentials.authorization is None:
            return False
        try:
            self._node_tokens.verify(_token(credentials.authorization))
        except (InvalidToken, NoKeys):
            return False
        return True

    def _certificate(self, peer: Peer) -> ClientCertificate | None:
        """Return the client certificate of `peer`; `None` if there is none, or if it has expired.

        A certificate may expire while the connection is open.
        """
        certificate = peer.certificate
        return certificate if certificate and self._now() < certificate.expires else None


class Session:
    """Authenticates the sender of heartbeats on one connection, and remembers the result."""

    __slots__ = ("_authentication", "_authorization", "_gate", "_peers", "_transport")

    def __init__(self, gate: Gate, peers: Peers, transport: Any) -> None:
        self._gate = gate
        self._peers = peers
        self._transport = transport
        self._authorization: bytes | None = None
        self._authentication: Authentication | None = None

    def may_beat(self, authorization: bytes | None, xname: str) -> bool:
        """Return whether the sender of a request may send a heartbeat of the component `xname`.

        `authorization` is the value of the request's `Authorization` header. `xname` should be in
        normal form, but is not validated: for a sender that may send heartbeats of every component,
        the result is `True` whatever the name is.
        """
        current = self._authentication
        if (
            current is None
            or authorization != self._authorization
            or not self._gate.still_holds(current)
        ):
            try:
                # Not before a request has arrived: the TLS handshake is complete then.
                peer = self._peers.of(self._transport)
                current = self._gate.authenticate(Credentials(peer, authorization))
            except Refused:
                self._authentication = self._authorization = None
                return False
            self._authentication, self._authorization = current, authorization
        return current.caller.any_component or xname in current.caller.components


def _challenges(bearer: bool, certificate: bool) -> tuple[str, ...]:
    return (BEARER,) * bearer + (CERTIFICATE,) * certificate


def _token(authorization: bytes) -> bytes:
    """Return the bearer token in the value of an `Authorization` header (RFC 6750).

    Raise `InvalidToken` if the value has no bearer token.
    """
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        raise InvalidToken("there is no bearer token")
    return authorization[len(_SCHEME) :].strip()
