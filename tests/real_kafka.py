"""A real Apache Kafka broker for the tests: one KRaft node on the loopback interface.

The broker's jars are fetched by name with Maven, as `tests/kafka_real/pom.xml` lists them; the
class path found so is kept in the checkout's git-ignored `var/kafka/`. Java 17 or later runs it.

Everything here blocks: `RealKafka.start()` for about three seconds (the first one ever, while
Maven downloads some 90 MB, for minutes), `RealKafka.stop()` for about one. From a trial test call
it through `deferToThread`; trial has no `setUpClass`. No reactor is touched.

    reason = why_not()

    @skipIf(reason is not None, reason)
    class Tests(TestCase):
        def setUp(self):
            self.kafka = RealKafka()
            self.addCleanup(deferToThread, self.kafka.close)
            return deferToThread(self.kafka.start)
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_CHECKOUT = Path(__file__).resolve().parent.parent
_PROJECT = _CHECKOUT / "tests" / "kafka_real"
_CACHE = _CHECKOUT / "var" / "kafka"

_HOST = "127.0.0.1"
_CLUSTER_ID = "hbtdTestsRealKafkaAAAA"  # 16 bytes in URL-safe base64 without padding
_OLDEST_JAVA = 17

# Little memory, a quick start, and nothing left in /tmp/hsperfdata_*.
_JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.awt.headless=true",
)


# Reads its standard input until that ends, which it does with the process of the tests, whatever
# ended that; then ends the broker, if it is one still, and removes its directory.
_WATCH = """
while read -r _; do :; done
grep -q kafka.Kafka "/proc/$1/cmdline" 2>/dev/null && kill -KILL "$1"
rm -rf -- "$2"
"""


class RealKafkaError(Exception):
    """The broker could not be fetched, formatted, started or ended."""


@functools.cache
def why_not() -> str | None:
    """Say in a sentence why no broker can be run here, or `None` when one can.

    Only the tools are looked at. That Maven then fails to fetch the jars is a failure to be seen,
    not a reason to skip.
    """
    java = shutil.which("java")
    if java is None:
        return "A real Kafka broker needs java, which is not on the PATH."
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"A real Kafka broker needs java, but {java} does not run: {error}."
    version = re.search(r'version "(\d+)', said.stderr + said.stdout)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        found = version[1] if version else "of an unknown version"
        return f"A real Kafka broker needs Java {_OLDEST_JAVA} or later; this one is {found}."
    if shutil.which("mvn") is None and _cached_class_path() is None:
        return "A real Kafka broker is fetched with mvn (Maven), which is not on the PATH."
    return None


def _class_path_file() -> Path:
    """Return where the class path of the present `pom.xml` is kept."""
    digest = hashlib.sha256((_PROJECT / "pom.xml").read_bytes()).hexdigest()
    return _CACHE / f"classpath-{digest[:16]}.txt"


def _cached_class_path() -> str | None:
    """Return the class path found by an earlier run, if all of its jars are still there."""
    try:
        found = _class_path_file().read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    if found and all(Path(jar).is_file() for jar in found.split(os.pathsep)):
        return found
    return None


def class_path(*, timeout: float = 600.0) -> str:
    """Return the broker's class path, asking Maven for it if no earlier run has.

    Safe to be called by several processes at once: one asks, the others wait for its answer.
    """
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed
        found = _cached_class_path()
        if found is not None:
            return found
        target = _class_path_file()
        partial = target.with_suffix(".partial")
        command = [
            shutil.which("mvn") or "mvn",
            "--quiet",
            "--batch-mode",
            "--file",
            str(_PROJECT / "pom.xml"),
            "dependency:build-classpath",
            "-Dmdep.includeScope=runtime",
            f"-Dmdep.outputFile={partial}",
        ]
        try:
            ran = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RealKafkaError(f"Maven did not fetch Kafka: {error}") from error
        if ran.returncode != 0:
            raise RealKafkaError(f"Maven did not fetch Kafka:\n{ran.stdout[-4000:]}")
        partial.replace(target)
        found = _cached_class_path()
        if found is None:
            raise RealKafkaError(f"Maven named jars that are not there: {target}")
        return found


def _free_ports(count: int) -> list[int]:
    """Find TCP ports nobody listens on, outside the range the kernel gives to clients.

    A port of that range could, while the broker is stopped, become the source port of any
    connection; even of one to itself: a client that keeps trying a loopback port nobody listens on
    may be given that very port, is then connected to itself, and the broker cannot come back.
    """
    candidates = list(range(20000, 32000))
    random.shuffle(candidates)
    found: list[int] = []
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RealKafkaError("no free ports")


class RealKafka:
    """One Kafka broker, its own controller, listening on 127.0.0.1 alone.

    Its port and its data outlive `stop()` and `kill()`: the next `start()` takes up both, so that
    its clients see a broker that was away. `close()` ends it and removes the data; so does leaving
    the `with` block, and the end of this process, even by a signal. All methods block, and are to
    be called from one thread at a time.

    A topic that is created by its first use gets as many `partitions` as said here; `properties`
    are further lines of `server.properties`, which win over the ones set below.
    """

    def __init__(self, *, partitions: int = 1, properties: Mapping[str, str] | None = None) -> None:
        self._port, self._controller_port = _free_ports(2)
        self._partitions = partitions
        self._properties = dict(properties or {})
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def address(self) -> str:
        """Where clients find the broker: `127.0.0.1:port`, the same for the object's life."""
        return f"{_HOST}:{self._port}"

    @property
    def port(self) -> int:
        """The port of `address`."""
        return self._port

    @property
    def running(self) -> bool:
        """Whether the broker's process lives, be it frozen."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the broker's process has printed so far, over all its starts."""
        if self._directory is None:
            return ""
        with contextlib.suppress(FileNotFoundError):
            return (self._directory / "broker.log").read_text(encoding="utf-8", errors="replace")
        return ""

    def start(self, *, timeout: float = 60.0) -> None:
        """Start the broker and wait until it accepts connections and answers for its metadata.

        The first time, its class path is resolved and its storage formatted; that time does not
        count towards the timeout.
        """
        if self.running:
            raise RealKafkaError("the broker runs already")
        jars = class_path()
        directory = self._directory if self._directory is not None else self._prepare(jars)
        with (directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java(jars, directory), "kafka.Kafka", str(directory / "server.properties")],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "sh", str(self._process.pid), str(directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._frozen = False
        try:
            self._await_answer(time.monotonic() + timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self, *, timeout: float = 30.0) -> None:
        """End the broker in good order (SIGTERM), or by force once the timeout has passed.

        Its data stay, and so does its port. Does nothing when it does not run.
        """
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            self.thaw()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._ended()

    def kill(self) -> None:
        """End the broker at once (SIGKILL), as a crash would; its data and port stay."""
        process = self._process
        if process is None:
            return
        process.kill()
        process.wait()
        self._ended()

    def freeze(self) -> None:
        """Stop the broker's process (SIGSTOP): connections stay open, and nobody answers."""
        if self._process is None or self._process.poll() is not None:
            raise RealKafkaError("the broker does not run")
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen broker go on (SIGCONT). Does nothing when it is not frozen."""
        if self._process is not None and self._frozen:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def close(self) -> None:
        """End the broker and remove its data; a later `start()` begins with empty ones."""
        atexit.unregister(self.close)
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> RealKafka:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ended(self) -> None:
        """Forget the process, which has been waited for, and call off who watches over it."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.kill()
            watch.wait()
            assert watch.stdin is not None
            watch.stdin.close()
        self._process = None
        self._frozen = False

    def _java(self, jars: str, directory: Path) -> list[str]:
        """Return the beginning of a command line, up to the name of the class to run."""
        return [
            shutil.which("java") or "java",
            *_JVM,
            f"-Djava.io.tmpdir={directory / 'tmp'}",
            f"-Dlog4j2.configurationFile={_PROJECT / 'log4j2.properties'}",
            "-cp",
            jars,
        ]

    def _prepare(self, jars: str) -> Path:
        """Make the broker's directory, write its configuration and format its storage."""
        directory = Path(tempfile.mkdtemp(prefix="hbtd-real-kafka-"))
        self._directory = directory
        atexit.register(self.close)
        (directory / "tmp").mkdir()
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{_HOST}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{_HOST}:{self._port},"
            f"CONTROLLER://{_HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{_HOST}:{self._port}",
            "log.dirs": str(directory / "data"),
            "auto.create.topics.enable": "true",
            "num.partitions": str(self._partitions),
            "default.replication.factor": "1",
            "min.insync.replicas": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # After kill() the controller lets the broker back in only when its old session is over:
            # by default 9 seconds.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self._properties,
        }
        (directory / "server.properties").write_text(
            "".join(f"{name}={value}\n" for name, value in properties.items()), encoding="utf-8"
        )
        formatted = subprocess.run(
            [
                *self._java(jars, directory),
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                _CLUSTER_ID,
                "--config",
                str(directory / "server.properties"),
            ],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        if formatted.returncode != 0:
            self.close()
            raise RealKafkaError(f"Kafka's storage was not formatted:\n{formatted.stdout[-4000:]}")
        return directory

    def _await_answer(self, deadline: float) -> None:
        """Wait until the broker lists itself in its own metadata."""
        client: AdminClient | None = None
        while time.monotonic() < deadline:
            assert self._process is not None
            code = self._process.poll()
            if code is not None:
                raise RealKafkaError(f"the broker ended with {code}:\n{self.log[-4000:]}")
            try:
                socket.create_connection((_HOST, self._port), timeout=1.0).close()
                if client is None:
                    client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
                if client.list_topics(timeout=1.0).brokers:
                    return
            except (OSError, KafkaException):
                pass
            time.sleep(0.05)
        raise RealKafkaError(f"the broker did not answer in time:\n{self.log[-4000:]}")
