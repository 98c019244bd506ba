"""Checks of the files of certificates, keys and tokens that options name."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from hbtd.access.jwks import FileKeys, JWKSUnusable
from hbtd.access.tokens import TokensUnusable, read_tokens
from hbtd.app.check.findings import Findings
from hbtd.app.errors import StartupError, naming_files
from hbtd.app.hints import file_hint
from hbtd.app.listening import make_certificate
from hbtd.config.params import Params
from hbtd.formats.counts import counted
from hbtd.net.chains import Expiring, expiring_authorities, expiring_chain
from hbtd.net.expiry import ExpiryNotices
from hbtd.net.own_secrets import read_bearer, read_login
from hbtd.net.revocation import ClientTrust, load_revocation_lists
from hbtd.net.tls import TLSUnusable, load_authorities, load_identity, read_pem


class _Pair(NamedTuple):
    """The options of a certificate and its key, and to whom hbtd presents the certificate."""

    cert: str
    key: str
    whom: str


class Files:
    """Checks the files of certificates, keys and tokens, by reading them as hbtd does at its start.

    Each file is read even if another one can't be used, so that all errors are found.
    """

    def __init__(self, params: Params, reactor: Any, findings: Findings) -> None:
        self._params = params
        self._reactor = reactor
        self._findings = findings
        self._expiring: list[Expiring] = []

    def check(self) -> None:
        """Read all files, and report for each of them whether it can be used."""
        params = self._params
        etcd = params.kv_url.startswith(("http://", "https://"))
        if params.tls_cert and params.tls_key:
            self._pair(_Pair("tls_cert", "tls_key", "clients"))
        elif params.serves_tls and not params.tls_cert:
            with self._findings.catching():
                make_certificate(replace(params, tls_client_ca="", tls_client_crl=""))
        if etcd and params.kv_cert and params.kv_key:
            self._pair(_Pair("kv_cert", "kv_key", "etcd"))
        if params.sm_cert and params.sm_key:
            self._pair(_Pair("sm_cert", "sm_key", "HSM"))
        self._secret("sm_token", read_bearer)
        if etcd:
            self._secret("kv_login", read_login)
        if params.telemetry_tls and params.telemetry_cert:
            self._pair(_Pair("telemetry_cert", "telemetry_key", "Kafka"))
        self._secret("telemetry_login", read_login)
        bundles = ["tls_client_ca"] * params.serves_tls + ["sm_ca"] + ["kv_ca"] * etcd
        bundles += ["telemetry_ca"] * params.telemetry_tls
        if params.node_rules.jwks_url:
            bundles.append("jwt_ca")
        for option in bundles:
            if getattr(params, option) not in ("", "system", "insecure"):
                self._bundle(option)
        if params.serves_tls and params.tls_client_crl:
            self._revocation_lists(params.tls_client_ca, params.tls_client_crl)
        self._access_file(
            "operator_access", params.operator_rules.token_path, lambda path: read_tokens(path)
        )
        if not params.node_rules.jwks_url:
            self._access_file("node_access", params.node_rules.jwks, FileKeys)
        ExpiryNotices(
            self._reactor, lambda: self._expiring, lambda: datetime.now(timezone.utc)
        ).check()

    def _pair(self, pair: _Pair) -> None:
        cert, key = getattr(self._params, pair.cert), getattr(self._params, pair.key)
        # OpenSSL needs both; the user wants to know of each.
        if not all([self._readable(pair.cert, cert), self._readable(pair.key, key)]):
            return
        if os.stat(key).st_mode & 0o007:
            self._findings.warning(
                f"--{pair.key}: {key} is accessible to every user of this host; restrict its"
                " permissions"
            )
        with (
            self._findings.catching(),
            naming_files({f"--{pair.cert}": cert, f"--{pair.key}": key}),
        ):
            identity = load_identity(cert, key)
            self._expiring += expiring_chain(
                identity.chain,
                f"hbtd's certificate in --{pair.cert}",
                f"{pair.whom} no longer trust hbtd. Renew it.",
                "others",
            )
            until = identity.expires.isoformat(timespec="seconds")
            self._findings.fine(f"--{pair.cert}: {cert} with its key {key}, valid until {until}")

    def _bundle(self, option: str) -> None:
        path = getattr(self._params, option)
        with self._findings.catching(), naming_files({f"--{option}": path}):
            authorities = load_authorities(path)
            consequence = "whoever is certified by it is no longer trusted. Renew it."
            self._expiring += expiring_authorities(authorities, f"--{option}", consequence)
            self._findings.fine(f"--{option}: {path}")

    def _revocation_lists(self, authorities: str, lists: str) -> None:
        with (
            self._findings.catching(),
            naming_files({"--tls_client_ca": authorities, "--tls_client_crl": lists}),
        ):
            trust = ClientTrust((), load_revocation_lists(lists))
            with suppress(TLSUnusable):  # which is reported as one of the bundle
                trust = ClientTrust(load_authorities(authorities), trust.lists)
            trust.check_complete(authorities, lists)
            self._expiring += trust.expiring_lists()
            revoked = counted(len(trust.revoked), "certificate")
            self._findings.fine(f"--tls_client_crl: {lists}, {revoked} revoked")

    def _secret(self, option: str, read: Callable[[str], object]) -> None:
        path = getattr(self._params, option)
        if not path:
            return
        with self._findings.catching(), naming_files({f"--{option}": path}):
            read(path)
            self._findings.fine(f"--{option}: {path}")

    def _access_file(self, option: str, path: str, read: Callable[[str], object]) -> None:
        if not path:
            return
        with self._findings.catching():
            try:
                read(path)
            except (TokensUnusable, JWKSUnusable) as error:
                reason = f"--{option}: {error}{file_hint(error)}"
                raise StartupError(reason, passing=True) from error
            self._findings.fine(f"--{option}: {path}")

    def _readable(self, option: str, path: str) -> bool:
        """Return whether the file of an option can be read; report an error if it can't."""
        with self._findings.catching(), naming_files({f"--{option}": path}):
            read_pem(path)
            return True
        return False
