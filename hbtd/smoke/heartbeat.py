"""Checks in which hbtd-smoke sends heartbeats under a component name that no node uses.

The checks must not harm a live system. So they send no heartbeat before they know that no node uses
the name, and that the caller may have components forgotten. They send heartbeats
regularly for as long as hbtd tracks the component, because hbtd would declare a silent component
dead. At the end they have hbtd forget the component, unless another client has sent heartbeats
under its name.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import quote

from hbtd.ctl.client import Answer
from hbtd.ctl.failures import Failure, Refused
from hbtd.ctl.invocation import API
from hbtd.formats.times import format_time
from hbtd.smoke.checking import Checks, Skipped, Wrong

STATUS = "hbtd-smoke"
"""The status in the heartbeats that these checks send, to tell them from those of nodes."""

_NID = "-1"  # no node's
_POLL = 0.2
"""Seconds between two questions about what has yet to come."""


class States(Protocol):
    """The interface of a client that reads the states of components from HSM."""

    def state(self, xname: str) -> tuple[str, str] | None:
        """Return the state and the flag of a component; `None` if HSM does not know it."""


class Heartbeat:
    """The checks that send heartbeats of one component.

    Each check is a method that returns a sentence about what it has found, or raises an exception.
    """

    def __init__(
        self,
        api: API,
        node_api: API,
        hsm: States | None,
        xname: str,
        params: dict[str, str],
        clock: Callable[[], float],
        wall: Callable[[], float],
        sleep: Callable[[float], None],
        *,
        patience: float,
    ) -> None:
        """Make the checks for the component `xname`, whose name is in normal form.

        `node_api` sends heartbeats, and `api` all other requests. If `hsm` is `None`, HSM is not
        checked. `params` are the parameters of hbtd. `clock` returns the seconds of a monotonic
        clock, `wall` returns the Unix time, and `sleep` sleeps for the given seconds. A check that
        waits for a condition fails if the condition is not met within `patience` seconds.
        """
        self._api = api
        self._node_api = node_api
        self._hsm = hsm
        self._xname = xname
        self._params = params
        self._period = self._errtime = math.nan
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._patience = patience
        self._last: float | None = None
        self._path = quote(xname, safe="")

    def run(self, checks: Checks) -> None:
        """Run the checks one by one.

        Stop, and send no heartbeat, if `period`, `free` or `forgettable` has failed.
        """
        if not checks.run("heartbeat: period", self.period):
            return
        if not checks.run(f"heartbeat: {self._xname} is free", self.free):
            return
        if not checks.run(f"heartbeat: {self._xname} may be forgotten", self.forgettable):
            return
        try:
            if checks.run(f"heartbeat: {self._xname} is heard", self.heard):
                checks.run(f"heartbeat: {self._xname} is seen", self.seen)
                checks.run(f"heartbeat: HSM shows {self._xname}", self.shown)
        finally:
            # Also after Ctrl-C, and if nobody knows whether the heartbeat has arrived.
            checks.run(f"heartbeat: {self._xname} is forgotten", self.forgotten)

    def period(self) -> str:
        """Check that `Warntime` is below `Errtime`, and choose the time between two heartbeats.

        The time between two heartbeats is a third of `Warntime`. Both are the component's own if a
        threshold applies to it; an older hbtd has no thresholds, and ignores the question for them.
        """
        own = self._api.get("/params", {"component": self._xname})
        warntime, errtime = int(own["Warntime"]), int(own["Errtime"])
        if not 0 < warntime < errtime:
            raise Wrong(f"Warntime {warntime} is not below Errtime {errtime}; nothing was sent")
        self._period, self._errtime = warntime / 3, errtime
        return f"{self._period:.3g} s"

    def free(self) -> str:
        """Check that no node uses the component's name.

        The check passes if hbtd does not track the component, or if the component was left behind
        by an earlier run of hbtd-smoke: then the component is silent, and the status in its last
        heartbeat is `STATUS`. Otherwise, raise `Wrong`.
        """
        found = self._component()
        if found is None:
            return "hbtd does not track it"
        if found.get("Status") == STATUS and found["State"] != "healthy":
            return f"left behind by an earlier run, and {found['State']}"
        raise Wrong(
            f"{self._xname} is {found['State']}, last heard {found.get('LastHeartbeat')} from"
            f" {found.get('Source')} with status {found.get('Status')!r}: give a name that no node"
            " has; nothing was sent"
        )

    def forgettable(self) -> str:
        """Check that hbtd would accept a request of this caller to forget components.

        The check is a request with an empty list of components.
        """
        self._api.call("POST", "/forget", body={"XNames": []})
        return "this caller is an operator"

    def heard(self) -> str:
        """Send the component's first heartbeat, and check that hbtd accepts it."""
        begun = self._clock()
        self._beat()
        return f"taken within {self._clock() - begun:.3f} s"

    def seen(self) -> str:
        """Wait until hbtd shows the component as healthy and heartbeating.

        Raise `Wrong` if that takes longer than `patience` seconds, or if the component's last
        heartbeat was not sent by hbtd-smoke.
        """

        def healthy() -> str | None:
            found = self._component()
            if found is None or found["State"] != "healthy":
                return None
            self._ours(found)
            answer = self._api.get(f"/hbstate/{self._path}")
            return found["State"] if answer["Heartbeating"] is True else None

        return f"{self._wait(healthy, 'it is not shown as healthy')}, and heartbeating"

    def shown(self) -> str:
        """Wait until HSM shows the component in the state Ready with the flag OK.

        Raise `Wrong` if that takes longer than `patience` seconds, and `Skipped` if HSM is not to
        be checked, or hbtd does not use HSM.
        """
        hsm = self._hsm
        if hsm is None:
            raise Skipped("no --hsm-url")
        if self._params.get("Nosm") == "1":
            raise Skipped("hbtd leaves HSM alone (Nosm)")
        last: tuple[str, str] | None = None

        def ready() -> str | None:
            nonlocal last
            last = hsm.state(self._xname)
            return "Ready OK" if last == ("Ready", "OK") else None

        def instead() -> str:
            if last is None:
                return f"HSM knows no {self._xname}: give the name of one that it knows; this is so"
            return f"HSM shows {' '.join(last)}"

        return self._wait(ready, instead)

    def forgotten(self) -> str:
        """Have hbtd forget the component, and check that hbtd no longer tracks it.

        hbtd refuses to forget a component twice within `Errtime` seconds. If hbtd refuses for this
        reason, or is unreachable, retry, and send heartbeats in the meantime. Raise `Wrong` if hbtd
        has not forgotten the component within `Errtime` plus 5 seconds, or within `patience`
        seconds if that is longer. Also raise `Wrong` if the component is healthy, but its last
        heartbeat was not sent by hbtd-smoke.
        """
        begun = self._clock()
        deadline = begun + max(self._errtime + 5, self._patience)
        why = ""
        while True:
            try:
                found = self._component()
                if found is not None and found["State"] == "healthy":
                    self._ours(found)
                answer = self._api.call("DELETE", f"/heartbeat/{self._path}", expected=(429,))
                if answer.status != 429:
                    break
                pause = _pause(answer)
            except Refused:
                raise
            except Failure as error:  # such as the 502 of a gateway
                why = f": {error}"
                pause = 1.0
            if self._clock() >= deadline:
                raise Wrong(
                    f"{self._xname} is left behind, and will be declared dead{why};"
                    f" hbtctl forget {self._xname} removes it"
                )
            self._idle(min(pause, deadline - self._clock()))
        self._last = None  # another heartbeat would be a first one
        # Replicas learn of it from one another.
        self._wait(lambda: "" if self._component() is None else None, "it is still tracked")
        return f"after {self._clock() - begun:.1f} s"

    def _component(self) -> dict[str, Any] | None:
        """Return the decoded answer of hbtd about the component; `None` if it is not tracked."""
        answer = self._api.call("GET", f"/components/{self._path}", expected=(404,))
        if answer.status == 404:
            return None
        found: dict[str, Any] = answer.json()
        try:
            return None if found["State"] == "unknown" else found
        except (KeyError, TypeError):
            raise Failure(f"the answer about {self._xname} is not one of hbtd's") from None

    def _ours(self, found: dict[str, Any]) -> None:
        """Raise `Wrong` if the component's last heartbeat was sent by somebody else.

        `found` is what `_component` has returned.
        """
        if found.get("Status") != STATUS:
            raise Wrong(
                f"somebody else beats as {self._xname}, from {found.get('Source')}: it is not"
                " forgotten"
            )

    def _beat(self) -> None:
        self._last = self._clock()
        body = {
            "Component": self._xname,
            "Hostname": f"{STATUS}-{self._xname}",
            "NID": _NID,
            "Status": STATUS,
            "Timestamp": format_time(self._wall()),
        }
        self._node_api.call("POST", "/heartbeat", body=body)

    def _wait(self, look: Callable[[], str | None], missing: str | Callable[[], str]) -> str:
        """Call `look` until it returns a text, and return that; send heartbeats meanwhile.

        Raise `Wrong` if that takes longer than `patience` seconds; the message begins with
        `missing` or, if that is a function, with what `missing()` returns.
        """
        deadline = self._clock() + self._patience
        while True:
            found = look()
            if found is not None:
                return found
            if self._clock() >= deadline:
                what = missing if isinstance(missing, str) else missing()
                raise Wrong(f"{what} after {self._patience:g} s")
            self._idle(_POLL)

    def _idle(self, seconds: float) -> None:
        """Sleep for `seconds`, and send the heartbeats that fall due meanwhile."""
        until = self._clock() + seconds
        while True:
            now = self._clock()
            due = until if self._last is None else self._last + self._period
            if due <= now < until:
                with suppress(Failure):  # what it means is found out by the next question
                    self._beat()
            elif now >= until:
                return
            else:
                self._sleep(min(due, until) - now)


def _pause(answer: Answer) -> float:
    """Return how many seconds to wait before a refused request is sent again.

    They are those of the header Retry-After, and at least `_POLL`, also if there is no such header.
    """
    try:
        pause = float(answer.headers.get("Retry-After", _POLL))
    except ValueError:
        return _POLL
    return pause if pause > _POLL else _POLL  # nor "nan"
