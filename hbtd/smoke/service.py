"""The checks that change nothing: probes, health, parameters, certificate, clock, metrics."""

import re
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from hbtd.ctl.invocation import API
from hbtd.smoke.checking import Checks, Skipped, Wrong

_FAILED_CHECKS = re.compile(r"^hbtd_self_check_failures_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_NAMES = ("hbtd_components", "hbtd_heartbeats_total", "hbtd_store_usable")


class Service:
    """The checks that only read from hbtd: they send GET requests, and change nothing.

    Each check is a method that returns a sentence about what it has found, or raises an exception.
    """

    def __init__(
        self,
        api: API,
        certificate: Callable[[], bytes | None],
        wall: Callable[[], float],
        *,
        most_apart: float,
        least_days: float,
    ) -> None:
        """Make the checks of the hbtd that is reached by `api`.

        `certificate` returns hbtd's certificate in DER, or `None` without TLS. `wall` returns the
        Unix time. The clocks of hbtd and this host may be at most `most_apart` seconds apart, and
        the certificate must be valid for at least `least_days` more days.
        """
        self._api = api
        self._certificate = certificate
        self._wall = wall
        self._most_apart = most_apart
        self._least_days = least_days
        self._date: tuple[str | None, float, float] = (None, 0.0, 0.0)
        self._health: dict[str, Any] = {}
        self.params: dict[str, str] = {}
        """The parameters of hbtd, from the answer to `GET /params`."""

    def run(self, checks: Checks) -> bool:
        """Run all checks of this class, one after another; `checks` records the outcomes.

        If hbtd does not answer `GET /liveness`, run no further checks, and return false. Otherwise
        return true, even if a check has failed.
        """
        if not checks.run("liveness", self.liveness):
            return False
        checks.run("certificate", self.certificate)
        checks.run("clock", self.clock)
        checks.run("readiness", self.readiness)
        checks.run("parameters", self.parameters)
        checks.run("health: store", self.store)
        checks.run("health: HSM", self.hsm)
        checks.run("health: Kafka", self.kafka)
        checks.run("health: load", self.load)
        checks.run("metrics", self.metrics)
        return True

    def liveness(self) -> str:
        """Check that hbtd answers `GET /liveness` with 204.

        Keep the answer's header `Date`, which the check `clock` needs.
        """
        before = self._wall()
        answer = self._api.call("GET", "/liveness")
        self._date = (answer.headers.get("Date"), before, self._wall())
        if answer.status != 204:
            raise Wrong(f"answered {answer.status}, not 204: this is perhaps not hbtd")
        return f"answered within {self._date[2] - before:.3f} s"

    def certificate(self) -> str:
        """Check that hbtd's certificate is valid for at least `least_days` more days.

        Raise `Skipped` if hbtd is reached without TLS.
        """
        der = self._certificate()
        if der is None:
            raise Skipped("there is no TLS")
        from cryptography.x509 import load_der_x509_certificate

        until = load_der_x509_certificate(der).not_valid_after_utc
        left = until - datetime.fromtimestamp(self._wall(), timezone.utc)
        days = left.total_seconds() / 86400
        text = f"valid until {until.isoformat()}, {days:.1f} days"
        if days < self._least_days:
            raise Wrong(f"{text}, which is less than --days {self._least_days:g}: renew it")
        return text

    def clock(self) -> str:
        """Check that the clocks of hbtd and of this host differ by at most `most_apart` seconds.

        The time of hbtd is taken from the header `Date` of the answer to `GET /liveness`, which the
        check `liveness` has kept. Raise `Skipped` if the answer had no such header.
        """
        date, before, after = self._date
        if date is None:
            raise Skipped("the answer has no Date")
        # It is in whole seconds, cut off.
        earliest = parsedate_to_datetime(date).timestamp()
        ahead = max(earliest - after, 0.0) or min(earliest + 1 - before, 0.0)
        if abs(ahead) > self._most_apart:
            which = "ahead of" if ahead > 0 else "behind"
            raise Wrong(f"hbtd's clock is {abs(ahead):.1f} s {which} this host's")
        return f"the clocks are at most {self._most_apart:g} s apart"

    def readiness(self) -> str:
        """Check, by `GET /readiness`, that hbtd is ready."""
        answer = self._api.call("GET", "/readiness", expected=(503,))
        if answer.status == 503:
            raise Wrong(f"not ready: {answer.json().get('detail')}")
        return "ready"

    def parameters(self) -> str:
        """Read the parameters of hbtd, and check that `Warntime` is below `Errtime`."""
        self.params = self._api.get("/params")
        warn, err = int(self.params["Warntime"]), int(self.params["Errtime"])
        if not 0 < warn < err:
            raise Wrong(f"Warntime {warn} is not below Errtime {err}: nobody is warned in time")
        return f"silence is warned about after {warn} s, and is death after {err} s"

    def store(self) -> str:
        """Check that hbtd can use its store, according to the answer to `GET /health`.

        Keep the answer, which the checks `hsm`, `kafka` and `load` need.
        """
        self._health = self._api.get("/health")
        if self._health.get("KvStoreReason"):
            raise Wrong(str(self._health["KvStoreReason"]))
        return str(self._health["KvStore"])

    def hsm(self) -> str:
        """Check that HSM is ready, according to the answer to `GET /health`.

        The answer is the one that the check `store` has kept. Raise `Skipped` if hbtd does not use
        HSM.
        """
        if self.params.get("Nosm") == "1":
            raise Skipped("hbtd leaves HSM alone (Nosm)")
        return self._neighbour("HsmStatus", "HsmStatusReason", "Ready")

    def kafka(self) -> str:
        """Check that hbtd is connected to Kafka, according to the answer to `GET /health`.

        The answer is the one that the check `store` has kept. Raise `Skipped` if hbtd does not use
        Kafka.
        """
        if self.params.get("Use_telemetry") == "0" or not self.params.get("Telemetry_host"):
            raise Skipped("hbtd publishes nothing on Kafka")
        return self._neighbour("MsgBus", "MsgBusReason", "Connected and OPEN")

    def _neighbour(self, key: str, reason: str, good: str) -> str:
        text = str(self._health[key])
        if text != good or self._health.get(reason):
            raise Wrong(str(self._health.get(reason) or text))
        return text

    def load(self) -> str:
        """Check that hbtd is not overloaded, according to the answer to `GET /health`.

        The answer is the one that the check `store` has kept.
        """
        if self._health.get("Overload"):
            raise Wrong(str(self._health["Overload"]))
        self._health["KvStore"]  # there is an answer
        return "not overloaded"

    def metrics(self) -> str:
        """Check that hbtd serves its metrics, and that no self-check of hbtd has failed."""
        text = self._api.call("GET", "/metrics").body.decode("utf-8", "replace")
        missing = [name for name in _NAMES if f"\n{name}" not in text]
        if missing:
            raise Wrong(f"there is no {missing[0]} among the metrics")
        failed = sum(float(each) for each in _FAILED_CHECKS.findall(text))
        if failed:
            raise Wrong(f"hbtd has found itself wrong {failed:g} times: its log says what")
        return f"{text.count(chr(10))} lines"
