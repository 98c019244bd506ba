"""All that has to do with access, put together out of the parameters."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from treq.client import HTTPClient
from twisted.application.service import MultiService
from twisted.logger import Logger
from twisted.web.client import Agent

from hbtd.access.gate import FULL, REASONS, Gate, Visitor
from hbtd.access.jwks import FetchedKeys, FileKeys, JWKSUnusable, KeySource
from hbtd.access.jwt import JWTVerifier
from hbtd.access.peers import Peers
from hbtd.access.refusals import Refusals
from hbtd.access.tokens import TokenFile, TokensUnusable
from hbtd.config.advice import advice, summary
from hbtd.config.params import Params
from hbtd.net.http_client import BoundedPool, PlainAgent
from hbtd.net.served_certificate import ExpiryNotices, ServedCertificate
from hbtd.net.tls import TLSUnusable, client_policy
from hbtd.runtime.watched_files import FileWatcher, WatchedFiles


class AccessUnusable(Exception):
    """Something that an option about access names can't be used; the message has both."""


class Access(MultiService):
    """The gate, with all that keeps it, and the served certificate, up to date."""

    _log = Logger()

    def __init__(
        self,
        params: Params,
        reactor: Any,
        served: ServedCertificate | None,
        reasons: tuple[str, ...] = (),
    ) -> None:
        """Read the files that there are; raises `AccessUnusable`.

        `reactor` is Twisted's, `served` the certificate of our own TLS, if there is any, and
        `reasons` are those for which others than the gate refuse something.
        """
        super().__init__()
        self._params = params
        self._reactor = reactor
        self._files: list[WatchedFiles[Any]] = []
        if served is not None:
            self._files += served.watched
            self.addService(ExpiryNotices(reactor, served, lambda: datetime.now(timezone.utc)))
        self.peers = Peers()
        """Knows who is at the other end of a connection."""
        self.gate = Gate(
            params.operator_ways,
            params.node_ways,
            time.time,
            self._make_tokens(),
            self._make_bearers(),
        )
        """Decides who may do what."""
        self.refusals = Refusals(reactor, (*REASONS, FULL, *reasons))
        """Hears of every refusal."""
        self.addService(self.refusals)
        self._watch = FileWatcher(reactor, self._files)
        self.addService(self._watch)

    def startService(self) -> None:
        """Say who may do what, and begin to look after it."""
        params = self._params
        self._log.info("{who}", who=summary(params.operator_ways, params.node_ways))
        for sentence in advice(params):
            self._log.warn("{sentence}", sentence=sentence)
        super().startService()

    def visitor(self, transport: Any) -> Visitor:
        """Make the visitor who is at the other end of a transport."""
        return Visitor(self.gate, self.peers, transport)

    def reload(self) -> None:
        """Read all files again; of what can't be used, the old stays as far as it may."""
        self._log.info("Reading the files of certificates, keys and tokens again.")
        self._watch.look_now()

    def _make_tokens(self) -> TokenFile | None:
        path = self._params.operator_ways.token_path
        if not path:
            return None
        with _naming("operator_access"):
            tokens = TokenFile(path)
        self._files.append(tokens.watched)
        return tokens

    def _make_bearers(self) -> JWTVerifier | None:
        params = self._params
        if not params.node_ways.jwks:
            return None
        return JWTVerifier(
            self._make_keys(params.node_ways.jwks, params.node_ways.jwks_url),
            params.jwt_audience,
            time.time,
            require_xname=params.jwt_require_xname,
        )

    def _make_keys(self, jwks: str, url: str) -> KeySource:
        if not url:
            with _naming("node_access"):
                read = FileKeys(jwks)
            self._files.append(read.watched)
            return read
        with _naming("jwt_ca"):
            policy = client_policy(self._params.jwt_ca)
        pool = BoundedPool(self._reactor, persistent=False)
        agent = PlainAgent(Agent(self._reactor, policy, pool=pool))
        fetched = FetchedKeys(url, HTTPClient(agent), self._reactor)
        self.addService(fetched)
        return fetched


@contextmanager
def _naming(option: str) -> Iterator[None]:
    try:
        yield
    except (TLSUnusable, TokensUnusable, JWKSUnusable) as error:
        raise AccessUnusable(f"--{option}: {error}") from error
