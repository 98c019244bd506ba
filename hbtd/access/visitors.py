"""Visitors: who sends heartbeats on a connection, found out once and not at each of them."""

from typing import Any

from hbtd.access.gate import Gate, Pass, Refused
from hbtd.access.peers import Peers


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
