"""Coverage-guided fuzzing of parsers: `python -m tests.fuzz.targets [SECONDS] [TARGET...]`.

Each target runs for `SECONDS` in its own process under atheris, which keeps inputs that reach new
code. An unexpected exception ends the run and leaves the input that raised it in the working
directory; it should become a test.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

SECONDS = int(os.environ.get("HBTD_FUZZ_SECONDS", "60"))

Target = Callable[[bytes], None]


def xnames() -> tuple[Target, Sequence[bytes]]:
    """Fuzz xnames: parsing a parsed name does not change it."""
    from hbtd.formats.xnames import parse

    def target(data: bytes) -> None:
        xname = parse(data.decode("utf-8", "surrogateescape"))
        assert xname is None or (parse(xname) == xname and xname.isascii() and xname.islower())

    return target, (b"x1000c0s0b0n0", b" X01000C0S0B0N0 ", b"s0", b"x0m0p0j0", b"d0w0")


def integers() -> tuple[Target, Sequence[bytes]]:
    """Fuzz integers in Go's syntax: the decimal form of a parsed one has the same value."""
    from hbtd.formats.go_integers import parse_integer

    def target(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        for bits, signed in ((64, True), (32, False), (16, False)):
            with suppress(ValueError):
                value = parse_integer(text, bits=bits, signed=signed)
                assert parse_integer(str(value), bits=bits, signed=signed) == value

    return target, (b"0x53", b"-5", b"0b11", b"1_000", b"017", b"18446744073709551615")


def json() -> tuple[Target, Sequence[bytes]]:
    """Fuzz JSON as Go reads it: whatever orjson takes is taken, with the same texts."""
    from hbtd.formats.go_json import decode_object

    def texts(value: object) -> dict[str, str]:
        assert isinstance(value, dict)
        return {key: text for key, text in value.items() if isinstance(text, str)}

    def target(data: bytes) -> None:
        with suppress(ValueError):
            read = orjson.loads(data)
            if isinstance(read, dict):
                assert texts(decode_object(data)) == texts(read)
        with suppress(ValueError):
            orjson.dumps(decode_object(data))

    return target, (b'{"a":"\\ud800\\\\","b":[1e999]}', b'{"a":"\xff","\xe2\x82":' + b"[" * 1030)


def heads() -> tuple[Target, Sequence[bytes]]:
    """Fuzz the fast lane: it consumes whole heartbeats from the front and nothing else."""
    from hbtd.api.fastlane import FastLane
    from hbtd.server.lane import Verdict

    service, _ = _service()
    lane = FastLane(service.monitor, float)

    def target(data: bytes) -> None:
        before = service.tracker.beats
        beats, end, verdict, _ = lane.take(data, lane.sender(None, None))
        assert service.tracker.beats - before == beats
        assert 0 <= end <= len(data)
        assert (end == 0) == (beats == 0)
        assert (end == len(data)) or verdict is not Verdict.DRY

    return target, _streams()


def lanes() -> tuple[Target, Sequence[bytes]]:
    """Fuzz whole connections: both lanes have the same answers and effects, and none is a 5xx."""
    from hbtd.server.factory import ConnectionFactory
    from tests.support.http_memory import Connection

    date = re.compile(rb"\r\nDate: [ -~]{29}\r\n")
    first, second = _service(), _service()
    ordinary = ConnectionFactory(second[1].site, None, second[1].reactor)
    services = (first, (second[0], ordinary))

    def converse(service: Any, factory: Any, data: bytes) -> tuple[object, ...]:
        before = service.tracker.beats
        connection = Connection(factory)
        half = len(data) // 2
        connection.send(data[:half], data[half:])
        answers = date.sub(b"\r\nDate: then\r\n", connection.received())
        closed = connection.closed
        connection.hang_up()
        return answers, closed, service.tracker.beats - before, service.params.current

    def target(data: bytes) -> None:
        if b"/metrics" in data or b"/health" in data:
            return  # their answers are about the process
        one, other = (converse(service, factory, data) for service, factory in services)
        assert one == other, (one, other)
        assert isinstance(one[0], bytes)
        assert not re.search(rb"HTTP/1\.[01] 5", one[0]), one[0]

    return target, _streams()


def tokens() -> tuple[Target, Sequence[bytes]]:
    """Fuzz tokens and keys: all tokens but the valid one are refused."""
    from hbtd.access.jwks import JWKSUnusable, parse_jwks
    from hbtd.access.jwt import InvalidToken, JWTVerifier
    from tests.support.issuer import Issuer

    issuer = Issuer()
    source: Any = SimpleNamespace(keys=parse_jwks(issuer.jwks()), request_refresh=lambda: None)
    good = issuer.token("x0c0s0b0n0").encode()
    verifier = JWTVerifier(source, "system-compute", time.time, float, require_xname=False)

    def target(data: bytes) -> None:
        with suppress(JWKSUnusable):
            parse_jwks(data)
        with suppress(InvalidToken):
            verifier.verify(data)
            assert data == good

    head, claims, signature = good.split(b".")
    return target, (good, issuer.jwks(), head + b".." + signature, b"." + claims + b".", b"a.b.c")


def peers() -> tuple[Target, Sequence[bytes]]:
    """Fuzz SPIFFE IDs, addresses, hosts, and the access options."""
    from hbtd.access.peers import is_loopback, parse_spiffe_id
    from hbtd.api.own_host import names_own_host
    from hbtd.config.access_rules import parse_node_access, parse_operator_access
    from hbtd.formats.xnames import parse

    def target(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        found = parse_spiffe_id(text)
        assert found is None or found.component is None or parse(found.component)
        assert not is_loopback(text) or text.startswith(("127.", "::"))
        if names_own_host(text, frozenset()):
            assert text.lower().startswith(("localhost", "127.", "["))
        for read in (parse_node_access, parse_operator_access):
            with suppress(ValueError):
                read(text)

    return target, (
        b"spiffe://site.example/compute/x0c0s0b0n0/workload/heartbeat",
        *(
            b"127.0.0.1",
            b"::ffff:127.0.0.1",
            b"[::1]:28500",
            b"localhost.:1",
            b"cert+jwt:/a",
            b"loopback+token:/a+cert:b,c",
        ),
    )


def etcd() -> tuple[Target, Sequence[bytes]]:
    """Fuzz keys and values in etcd: they are read, or refused as not hbtd's."""
    from hbtd.replicas.sign_of_life import read_sign_of_life
    from hbtd.store.etcd_blocks import read_block
    from hbtd.store.etcd_format import InvalidValue, read_judgement, read_params, read_record
    from hbtd.store.etcd_log_format import as_entry, read_cursor, read_stored

    def target(data: bytes) -> None:
        key, _, value = data.partition(b"\n")
        for read in (
            lambda: read_record(key, value, 1_700_000_000.0),
            lambda: read_judgement(key, value),
            lambda: read_params(value),
            lambda: read_block(key, value),
            lambda: read_sign_of_life(value),
            lambda: read_cursor(key, value),
            lambda: [as_entry(entry) for entry in read_stored(key, value)],
        ):
            with suppress(InvalidValue):
                read()

    record = {
        "Component": "x0c0s0b0n0",
        "Last_hb_rcv_time": "6553f100",
        "Last_hb_timestamp": "now",
        "Last_hb_status": "OK",
        "Had_warning": "WN",
    }
    seeds = (
        b"x0c0s0b0n0\n" + orjson.dumps(record),
        b'params\n{"Warntime":"10"}',
        b'hbtd/log/0000000000000041\n[[41,"x1","DIED","warned",17.2,"now","silent","nid1:28500"]]',
    )
    return target, seeds


TARGETS = {
    each.__name__: each for each in (xnames, integers, json, heads, lanes, tokens, peers, etcd)
}


def _service(**options: Any) -> tuple[Any, Any]:
    """Start a service in memory; return it and its factory."""
    from hbtd.app.service import HbtdService
    from hbtd.config.params import Params
    from tests.support.http_memory import MemoryReactor, no_kafka

    params = Params(kv_url="mem:", nosm=True, use_telemetry=False, tls=False, **options)
    reactor = MemoryReactor()
    service = HbtdService(params, reactor, connect_kafka=no_kafka)
    service.startService()
    return service, reactor.tcpServers[0][1]


def _streams() -> list[bytes]:
    from tests.support.http_memory import BEAT, HEARTBEAT, XNAME, chunked, encode_request, head

    body = orjson.dumps(HEARTBEAT)
    return [
        BEAT,
        BEAT * 3,
        encode_request("POST", f"/v1/heartbeat/{XNAME}", HEARTBEAT),
        head("POST /v1/heartbeat", "Transfer-Encoding: chunked") + chunked(body, 50),
        encode_request("POST", "/v1/hbstates", {"XNames": [XNAME, "x1"]}),
        encode_request("PATCH", "/v1/params", {"Warntime": "0x0f"}) + BEAT,
        head("GET /v1/params", "Connection: close"),
    ]


def _fuzz(name: str, arguments: Sequence[str]) -> None:
    """Fuzz one target in this process; never return."""
    import atheris

    # Modules imported here are instrumented: their branches guide the fuzzer.
    with atheris.instrument_imports(include=["hbtd", "jwt", "twisted.web"]):
        target, _ = TARGETS[name]()
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()


def _run(name: str, seconds: int) -> bool:
    """Fuzz one target in its own process, and print the result; return whether it passed.

    Raise `TimeoutExpired` if the process does not end in time.
    """
    _, seeds = TARGETS[name]()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            Path(corpus, str(number)).write_bytes(seed)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.targets", "--one", name, corpus),
                *(f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10"),
                *("-rss_limit_mb=2048", "-artifact_prefix=fuzz-", "-print_final_stats=1"),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + 120,
        )
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    coverage = re.findall(r"cov: (\d+)", done.stderr)
    print(
        f"{name:10} {int(runs[1]) if runs else 0:>12,} inputs, {coverage[-1] if coverage else '?'}"
        f" branches: {'nothing found' if done.returncode == 0 else 'FAILED'}",
        flush=True,
    )
    if done.returncode:
        print(done.stderr[-4000:], flush=True)
    return done.returncode == 0


def main(arguments: Sequence[str]) -> int:
    """Fuzz all targets, or those that are named, one after another; return the exit status."""
    if arguments[:1] == ["--one"]:
        _fuzz(arguments[1], arguments[2:])
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is missing: it is in the extra 'fuzz', pip install -e '.[fuzz]'")
        return 1
    seconds = int(arguments[0]) if arguments else SECONDS
    names = arguments[1:] or list(TARGETS)
    outcomes = [_run(name, seconds) for name in names]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
