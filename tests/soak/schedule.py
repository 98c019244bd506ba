"""Which faults a soak has, and when: all from a seed."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final, NamedTuple

REPLICAS, SQLITE = "replicas", "sqlite"
"""The two machines of a soak: one with replicas on etcd, one with a single hbtd."""

KILL, TERMINATE, FREEZE, RELOAD = "kill", "terminate", "freeze", "reload"
CERTIFICATE, ETCD_STOP, ETCD_FREEZE, HSM = "certificate", "etcd stop", "etcd freeze", "hsm"
NODES, AGENTS = "nodes", "agents"

HSM_TROUBLES: Final[Sequence[dict[str, object]]] = (
    {"fail_status": 503, "ready": False},
    {"database_gone": True},
    {"hang": True, "hang_ready": True},
    {"reset": True, "ready": False},
    {"garbage": True, "ready": False},
    {"cost_ms": 200.0},
)
"""What may be wrong with HSM, as changes of the fake HSM's behaviour."""

STEADY_AFTER: Final = 0.25
"""The part of the run after which some processes are ended no more.

A leak shows only in a process that lives long: the last replica, and the hbtd on SQLite.
"""

_TROUBLE_EVERY: Final = {REPLICAS: 25.0, SQLITE: 45.0}
_NODES_EVERY: Final = {REPLICAS: 15.0, SQLITE: 30.0}
"""Mean seconds between two faults of a kind."""

_FIRST: Final = 60.0
"""Seconds until the first fault, or a tenth of a short run."""


class Fault(NamedTuple):
    """A fault that is planned."""

    at: float
    """Seconds from the beginning of the run."""

    site: str
    """`REPLICAS` or `SQLITE`."""

    kind: str

    number: int
    """Which process, or which trouble of HSM's, or how many nodes."""

    seconds: float
    """For how long: until the process is started again, or goes on, or the nodes come back."""


def plan(seed: int, seconds: float, replicas: int = 3) -> list[Fault]:
    """Return the faults of a run in the order of their times; the same seed has the same ones.

    None of them begins before the first tenth of the run, or 60 s, is over; and none begins or ends
    later than `seconds`.
    """
    faults: list[Fault] = []
    for site in (REPLICAS, SQLITE):
        for every, kinds in (
            (_TROUBLE_EVERY[site], _troubles(site)),
            (_NODES_EVERY[site], {NODES: 5.0, AGENTS: 1.0}),
        ):
            random = Random(f"{seed} {site} {sorted(kinds)}")
            faults += _some(random, site, kinds, every, seconds, replicas)
    return sorted(faults)


def _troubles(site: str) -> dict[str, float]:
    """Return the kinds of faults of a machine's services, with their weights."""
    usual = {KILL: 3.0, TERMINATE: 1.0, FREEZE: 3.0, RELOAD: 1.0, CERTIFICATE: 1.0, HSM: 3.0}
    return {**usual, ETCD_STOP: 2.0, ETCD_FREEZE: 1.0} if site == REPLICAS else usual


def _some(
    random: Random,
    site: str,
    kinds: dict[str, float],
    every: float,
    seconds: float,
    replicas: int,
) -> Iterator[Fault]:
    """Yield the faults of some kinds at a machine."""
    at = min(_FIRST, seconds / 10)
    while (at := at + random.expovariate(1 / every)) < seconds:
        (kind,) = random.choices(list(kinds), list(kinds.values()))
        number, lasts = _extent(random, site, kind, replicas, steady=at > STEADY_AFTER * seconds)
        if number >= 0 and at + lasts <= seconds:
            yield Fault(at, site, kind, number, lasts)


def _extent(
    random: Random, site: str, kind: str, replicas: int, *, steady: bool
) -> tuple[int, float]:
    """Return a fault's number and seconds; the number is -1 if there can't be such a fault."""
    processes = replicas if site == REPLICAS else 1
    if kind in (KILL, TERMINATE):
        mortal = processes - 1 if steady else processes
        number = random.randrange(mortal) if mortal else -1
        return number, random.choice([0.0, 1.0, random.uniform(1, 20)])
    if kind == FREEZE:
        return random.randrange(processes), random.uniform(0.5, 15)
    if kind == RELOAD:
        return random.randrange(processes), 0.0
    if kind == CERTIFICATE:
        return 0, 0.0
    if kind == HSM:
        return random.randrange(len(HSM_TROUBLES)), random.uniform(2, 40)
    if kind in (ETCD_STOP, ETCD_FREEZE):
        return 0, random.uniform(0.5, 20 if kind == ETCD_STOP else 8)
    if kind == AGENTS:
        return random.randint(1, 5), random.uniform(5, 200)
    most = 64 if site == REPLICAS else 16
    lasts = random.choice([random.uniform(2, 60), random.uniform(100, 250)])
    return random.choice([1, random.randint(2, 8), most]), lasts
