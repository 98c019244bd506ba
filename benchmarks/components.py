"""The memory that a process needs more for each component, with a store that is durable.

That of the component itself is measured in `benchmarks.tracking`; here what the queues for HSM and
the store take at their longest is added, which the process keeps.
"""

import socket
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from urllib.parse import urlsplit

from benchmarks.crowds import resident
from benchmarks.http import PLAIN
from benchmarks.running import fake_hsm, hbtd_process
from benchmarks.table import Row
from hbtd.simulator.fleet import node_names

_ROUNDS = 4
"""The number of heartbeats of each component: enough to know its mean period and deviation."""

_PER_SECOND = 10_000
_AT_ONCE = 20


def measure(count: int) -> list[Row]:
    """Measure the memory of each of `count` components that beat every ten seconds."""
    with TemporaryDirectory() as folder:
        store = f"--kv_url=sqlite:{folder}/hbtd.sqlite"
        with fake_hsm() as hsm, hbtd_process(*PLAIN, f"--sm_url={hsm}", store) as (url, pid):
            names = node_names(count)
            address = urlsplit(url).hostname, urlsplit(url).port
            with socket.create_connection(address) as connection:
                beat(connection, names[:500], 0)  # what is allocated only once is not counted
                before = resident(pid)
                for round_ in range(_ROUNDS):
                    beat(connection, names, round_)
                size = (resident(pid) - before) / count
    what = f"growth of the process per component, {count:,} of them just started, store sqlite"
    return [Row(what, f"{size:.0f} bytes")]


def beat(connection: socket.socket, names: list[str], round_: int) -> None:
    """Send a heartbeat of each component, 10,000 a second at most, and read the answers."""
    began = monotonic()
    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        requests = (heartbeat(name, first + i, round_) for i, name in enumerate(some))
        connection.sendall(b"".join(requests))
        answers = 0
        while answers < len(some):
            answers += connection.recv(65536).count(b"HTTP/1.1 200 OK\r\n")
        sleep(max(began + first / _PER_SECOND - monotonic(), 0.0))


def heartbeat(name: str, number: int, round_: int) -> bytes:
    """Return a request with a heartbeat; what differs in it between heartbeats are the numbers."""
    body = (
        f'{{"Component":"{name}","Hostname":"nid{number:06}","NID":"{number}","Status":"OK",'
        f'"Timestamp":"2026-11-23T00:00:{round_:02}.{number % 1_000_000:06}+00:00"}}'
    )
    head = f"POST /hmi/v1/heartbeat HTTP/1.1\r\nHost: hbtd\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()
