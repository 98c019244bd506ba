"""The gate: decides who may do what.

There are two roles. A node speaks for itself: sends its heartbeats and says that it goes away. An
operator steers the service. `Gate` knows how each is known; whoever serves requests, in whichever
lane, asks it with a `Peer`, the value of the `Authorization` header, and whether the request was
relayed by somebody else.
"""

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from hbtd.access.jwt import JWTVerifier, NoKeys, Unverified
from hbtd.access.peers import CertificateNames, Peer, Peers
from hbtd.access.tokens import TokenFile
from hbtd.config.access_rules import NodeWays, OperatorWays

BEARER = 'Bearer realm="hbtd"'
CERTIFICATE = 'Certificate realm="hbtd"'

_SCHEME = b"bearer "


class Refused(Exception):
    """A request that is turned away; the message tells its sender why."""

    reason = ""
    """A word for counting."""


class Unauthenticated(Refused):
    """Nobody has shown who they are, or not well enough."""

    reason = "unauthenticated"

    def __init__(self, detail: str, challenges: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.challenges = challenges
        """How they can, as values of `WWW-Authenticate`; at least one."""


class Forbidden(Refused):
    """Somebody may not do this, whoever they say they are."""

    reason = "forbidden"


class NotYet(Refused):
    """It can't be found out yet who somebody is."""

    reason = "no_keys"


REASONS = (Unauthenticated.reason, Forbidden.reason, NotYet.reason)
"""Why the gate refuses requests, in the words in which refusals are counted."""

FULL = "full"
"""Why a request of somebody who may is refused: there is no room."""


class Caller(NamedTuple):
    """Who a request comes from, as far as it matters."""

    own: frozenset[str] = frozenset()
    """The components that it is."""
    anyone: bool = False
    """Whether it may send heartbeats of any component."""
    operator: bool = False
    """Whether it is an operator, if that was asked."""

    def check_beat(self, xname: str) -> None:
        """See whether it may send a heartbeat of this component; raises `Forbidden`."""
        if not self.anyone and xname not in self.own:
            raise Forbidden("Only heartbeats of one's own component are taken")

    def check_forget(self, xname: str) -> None:
        """See whether it may have this component forgotten; raises `Forbidden`."""
        if not self.operator and xname not in self.own:
            raise Forbidden("Only operators may have another component forgotten")


ANYONE = Caller(anyone=True)


class Pass(NamedTuple):
    """What a node's credentials are good for, and how long."""

    caller: Caller
    until: float
    """When one of the credentials ends, in seconds since the epoch."""
    keys: object
    """The keys that a token was checked with: with others it has to be checked again."""


class Gate:
    """Knows operators and nodes when it sees them."""

    def __init__(
        self,
        operators: OperatorWays,
        nodes: NodeWays,
        now: Callable[[], float],
        tokens: TokenFile | None = None,
        bearers: JWTVerifier | None = None,
    ) -> None:
        """`now` gives the seconds since the epoch.

        `tokens` and `bearers` are there if the ways speak of a token file or a JWKS.
        """
        self._operators = operators
        self._nodes = nodes
        self._now = now
        self._tokens = tokens
        self._bearers = bearers
        self._node_challenges = _challenges(bearers is not None, nodes.certificates)
        self._operator_challenges = _challenges(tokens is not None, bool(operators.names))

    @property
    def nodes_open(self) -> bool:
        """Whether anybody may send heartbeats: then there is no need to ask."""
        return self._nodes.anyone

    def node(self, peer: Peer, authorization: bytes | None) -> Caller:
        """Find out who sends a heartbeat; raises `Unauthenticated` or `NotYet`."""
        return self.node_pass(peer, authorization).caller

    def holds(self, given: Pass) -> bool:
        """Tell whether a pass is still good for what it was good for."""
        return self._now() < given.until and (
            self._bearers is None or given.keys is self._bearers.keys
        )

    def node_pass(self, peer: Peer, authorization: bytes | None) -> Pass:
        """Find out who sends heartbeats, for more than one; raises as `node` does."""
        keys = None if self._bearers is None else self._bearers.keys
        if self._nodes.anyone:
            return Pass(ANYONE, inf, keys)
        own: set[str] = set()
        known = anyone = False
        until = inf
        certificate = self._certificate(peer)
        if self._nodes.certificates and certificate is not None:
            known = True
            own |= certificate.components
            until = certificate.expires
        fault = "Credentials are needed"
        if self._bearers is not None and authorization is not None:
            try:
                expires, bearer = self._bearers.checked(_token(authorization))
            except Unverified as error:
                fault = f"Other credentials are needed: {error}"
            except NoKeys:
                if not known:
                    raise NotYet("There are no keys yet to check tokens with") from None
            else:
                known = True
                until = min(until, expires)
                anyone = bearer.anyone
                if bearer.component is not None:
                    own.add(bearer.component)
        if not known:
            raise Unauthenticated(fault, self._node_challenges)
        return Pass(Caller(frozenset(own), anyone), until, keys)

    def operator(self, peer: Peer, authorization: bytes | None, *, relayed: bool) -> None:
        """See that a caller is an operator; raises `Unauthenticated` or `Forbidden`."""
        if self._is_operator(peer, authorization, relayed):
            return
        if not self._operator_challenges:
            raise Forbidden("Only operators, who are on hbtd's own host, may do this")
        if self._is_known(peer, authorization):
            raise Forbidden("Only operators may do this")
        raise Unauthenticated("An operator's credentials are needed", self._operator_challenges)

    def forgetter(self, peer: Peer, authorization: bytes | None, *, relayed: bool) -> Caller:
        """Find out who wants a component forgotten.

        Raises `Unauthenticated`, `Forbidden` when it could be nobody's own, or `NotYet`.
        """
        if self._is_operator(peer, authorization, relayed):
            return Caller(operator=True)
        if self._nodes.anyone:
            # Nobody can show that a component is their own.
            self.operator(peer, authorization, relayed=relayed)
        try:
            return self.node(peer, authorization)
        except Unauthenticated as error:
            challenges = dict.fromkeys((*error.challenges, *self._operator_challenges))
            raise Unauthenticated(str(error), tuple(challenges)) from None

    def _is_operator(self, peer: Peer, authorization: bytes | None, relayed: bool) -> bool:
        ways = self._operators
        if ways.anyone or (ways.loopback and peer.local and not relayed):
            return True
        certificate = self._certificate(peer)
        if certificate is not None and certificate.common_name in ways.names:
            return True
        if self._tokens is None or authorization is None:
            return False
        try:
            return self._tokens.holds(_token(authorization))
        except Unverified:
            return False

    def _is_known(self, peer: Peer, authorization: bytes | None) -> bool:
        """Tell whether a caller has shown who they are, though that is no operator."""
        if self._certificate(peer) is not None:
            return True
        if self._bearers is None or authorization is None:
            return False
        try:
            self._bearers.bearer(_token(authorization))
        except (Unverified, NoKeys):
            return False
        return True

    def _certificate(self, peer: Peer) -> CertificateNames | None:
        """Give what a peer's certificate says, if it is still good: connections may outlast it."""
        certificate = peer.certificate
        return certificate if certificate and self._now() < certificate.expires else None


class Visitor:
    """Whoever is at the other end of a connection, as long as that lasts."""

    __slots__ = ("_authorization", "_gate", "_pass", "_peers", "_transport")

    def __init__(self, gate: Gate, peers: Peers, transport: Any) -> None:
        self._gate = gate
        self._peers = peers
        self._transport = transport
        self._authorization: bytes | None = None
        self._pass: Pass | None = None

    def may_beat(self, authorization: bytes | None, xname: str) -> bool:
        """Tell whether a heartbeat of this component may be sent.

        `authorization` is the header's value, `xname` in normal form: of other texts, those who may
        send heartbeats of any component may send any. Why not is for somebody else to say.
        """
        given = self._pass
        if given is None or authorization != self._authorization or not self._gate.holds(given):
            try:
                # Not before there is a request: only then is the handshake done.
                given = self._gate.node_pass(self._peers.of(self._transport), authorization)
            except Refused:
                self._pass = self._authorization = None
                return False
            self._pass, self._authorization = given, authorization
        return given.caller.anyone or xname in given.caller.own


def _challenges(bearer: bool, certificate: bool) -> tuple[str, ...]:
    return (BEARER,) * bearer + (CERTIFICATE,) * certificate


def _token(authorization: bytes) -> bytes:
    """Take the token out of an `Authorization` header; raises `Unverified` if there is none."""
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        raise Unverified("there is no bearer token")
    return authorization[len(_SCHEME) :].strip()
