"""The parts of access control, built from the parameters."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from cryptography.x509 import Certificate
from treq.client import HTTPClient
from twisted.application.service import MultiService
from twisted.logger import Logger

from hbtd.access.gate import Gate, Session
from hbtd.access.jwks import FetchedKeys, FileKeys, JWKSUnusable, KeySource
from hbtd.access.jwt import JWTVerifier
from hbtd.access.peers import Peers
from hbtd.access.refusals import REASONS, Refusals
from hbtd.access.tokens import TokenFile, TokensUnusable
from hbtd.config.advice import advice, summary
from hbtd.config.params import Params
from hbtd.net.chains import Expiring
from hbtd.net.client_credentials import ClientCredentials, RenewedAgent
from hbtd.net.expiry import ExpiryNotices
from hbtd.net.http_client import BoundedPool, PlainAgent
from hbtd.net.served_certificate import ServedCertificate
from hbtd.net.tls import TLSUnusable
from hbtd.runtime.watched_files import FileWatcher, WatchedFiles


class AccessUnusable(Exception):
    """Raised when an option about access can't be used; the message says which option and why."""


class Access(MultiService):
    """The gate, the count of refusals, and the services that keep credentials up to date."""

    _log = Logger()

    def __init__(
        self,
        params: Params,
        reactor: Any,
        served: ServedCertificate | None,
        reasons: tuple[str, ...],
        jitter: Callable[[], float],
        clients: Sequence[ClientCredentials] = (),
    ) -> None:
        """Make the parts, and read all files that the parameters name.

        `served` is the certificate that hbtd presents to clients, or `None` if it serves without
        TLS. `reasons` are the words under which refusals by parts other than the gate are counted.
        `jitter` returns a random number from 0 to 1, for the pauses between retries. `clients` are
        the credentials that hbtd uses as a client of other services; their files are watched, too.
        Raise `AccessUnusable` if a file can't be used.
        """
        super().__init__()
        self._params = params
        self._reactor = reactor
        self._jitter = jitter
        self._served = served
        self._files: list[WatchedFiles[Any]] = []
        self._certificates: list[ServedCertificate | ClientCredentials] = [*clients]
        if served is not None:
            self._certificates.insert(0, served)
        self.peers = Peers()
        """The peers of all connections."""
        self.gate = Gate(
            params.operator_rules,
            params.node_rules,
            time.time,
            self._make_operator_tokens(),
            self._make_node_tokens(),
        )
        """The gate, which decides who may do what."""
        self.refusals = Refusals(reactor, (*REASONS, *reasons))
        """The counter of refused requests and connections, which also logs them."""
        self.addService(self.refusals)
        self._notices = ExpiryNotices(reactor, self._expiring, lambda: datetime.now(timezone.utc))
        self.addService(self._notices)
        for certificates in self._certificates:
            self._files += certificates.watched
            for files in certificates.watched:
                files.on_change(self._check_expiry)
        self._watcher = FileWatcher(reactor, self._files)
        self.addService(self._watcher)

    def startService(self) -> None:
        """Log the access rules, warn of risky settings, and start to watch files for changes."""
        params = self._params
        self._log.info(
            "Access rules in force: {who}", who=summary(params.operator_rules, params.node_rules)
        )
        for sentence in advice(params):
            self._log.warn("Risky setting: {sentence}", sentence=sentence)
        super().startService()

    def session(self, transport: Any) -> Session:
        """Return a new session, which authenticates the heartbeats that arrive on `transport`."""
        return Session(self.gate, self.peers, transport)

    def reload(self, asked_by: str) -> None:
        """Read all files of certificates, keys and tokens again, changed or not; log the outcomes.

        `asked_by` says, for the log, who or what has requested this. If a file can't be used, its
        old contents stay in force. The exception is the file of operators' tokens: while it can't
        be used, no token in it is valid.
        """
        outcomes = self._watcher.reload()
        self._log.info(
            "Change by {asked_by}: certificates, keys and tokens were read again: {outcome}.",
            asked_by=asked_by,
            outcome="; ".join(outcomes) or "there are no such files",
        )

    def presented(self) -> Iterator[tuple[str, Certificate]]:
        """Yield a pair for each certificate that hbtd presents: a name, and the certificate.

        The certificate that hbtd presents to clients has the name `served`. A certificate that hbtd
        presents to a server has the name of the option for the certificate, such as `kv_cert`.
        """
        for certificates in self._certificates:
            yield from certificates.presented()

    def next_update(self) -> datetime | None:
        """Return the time, in UTC, at which the first of the certificate revocation lists expires.

        Return `None` if no list is used.
        """
        return None if self._served is None else self._served.next_update()

    def unusable(self) -> int:
        """Return how many certificates, revocation lists, keys and secrets have unusable files.

        Such a file could not be used when it was last read. Files that belong together, such as
        those of a certificate and its key, count once.
        """
        return self._watcher.unusable

    def _expiring(self) -> Iterator[Expiring]:
        for certificates in self._certificates:
            yield from certificates.expiring()

    def _check_expiry(self) -> None:
        if self.running:
            self._notices.check()

    def _make_operator_tokens(self) -> TokenFile | None:
        path = self._params.operator_rules.token_path
        if not path:
            return None
        with _naming("operator_access"):
            tokens = TokenFile(path)
        self._files.append(tokens.watched)
        return tokens

    def _make_node_tokens(self) -> JWTVerifier | None:
        params, rules = self._params, self._params.node_rules
        if not rules.jwks:
            return None
        return JWTVerifier(
            self._make_keys(rules.jwks, rules.jwks_url),
            params.jwt_audience,
            time.time,
            self._reactor.seconds,
            require_xname=params.jwt_require_xname,
            issuer=params.jwt_issuer,
            trust_domain=params.jwt_trust_domain,
        )

    def _make_keys(self, jwks: str, url: str) -> KeySource:
        if not url:
            with _naming("node_access"):
                keys = FileKeys(jwks)
            self._files.append(keys.watched)
            return keys
        with _naming("jwt_ca"):
            credentials = ClientCredentials(
                "the issuer of JWTs' keys", "--jwt_ca", self._params.jwt_ca
            )
        self._certificates.append(credentials)
        agent = RenewedAgent(
            self._reactor, credentials, lambda: BoundedPool(self._reactor, persistent=False)
        )
        http = HTTPClient(PlainAgent(agent))
        fetched = FetchedKeys(url, http, self._reactor, self._jitter)
        self.addService(fetched)
        return fetched


@contextmanager
def _naming(option: str) -> Iterator[None]:
    """Return a context manager that raises `AccessUnusable` if its block can't use a file.

    The message of the exception names `option`, and says why.
    """
    try:
        yield
    except (TLSUnusable, TokensUnusable, JWKSUnusable) as error:
        raise AccessUnusable(f"--{option}: {error}") from error
