"""Requests with a bearer token (RFC 6750) that may change while hbtd runs."""

from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.web.client import ResponseFailed
from twisted.web.http import UNAUTHORIZED
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from hbtd.net.bodies import ResponseTooLarge, read_body
from hbtd.net.own_secrets import BearerToken, SecretFile

_LONGEST_REFUSAL = 64 * 1024
"""The most bytes of the body of a 401 that are read; a longer one ends its connection."""


@implementer(IAgent)
class BearerAgent:
    """A wrapper of an HTTP agent that sends a bearer token with each request.

    After a 401, which says that the request had no effect, the token's file is read again if it has
    changed. If it then has another token, the request is repeated, once. Otherwise the caller gets
    the 401.
    """

    def __init__(self, agent: IAgent, token: SecretFile[BearerToken]) -> None:
        self._agent = agent
        self._token = token

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Make a request with the wrapped agent.

        The arguments and the result are those of `IAgent.request`, but `bodyProducer` must be able
        to produce the body twice.
        """
        return Deferred.fromCoroutine(self._request(method, uri, headers, bodyProducer))

    async def _request(
        self, method: bytes, uri: bytes, headers: Headers | None, body: IBodyProducer | None
    ) -> IResponse:
        sent = self._token.current
        response = await self._agent.request(method, uri, _with(headers, sent), body)
        if response.code != UNAUTHORIZED or not self._token.renewed(sent):
            return response
        with suppress(ResponseTooLarge, ResponseFailed, ConnectionClosed):
            await read_body(response, _LONGEST_REFUSAL)  # so that its connection can be used again
        return await self._agent.request(method, uri, _with(headers, self._token.current), body)


def _with(headers: Headers | None, token: BearerToken) -> Headers:
    found = Headers() if headers is None else headers.copy()
    found.setRawHeaders(b"authorization", [b"Bearer " + token.secret.encode("ascii")])
    return found
