"""A real Apache Kafka broker for the tests: one KRaft node on the loopback interface.

The broker's jars are fetched with Maven, as listed in `tests/kafka_real/pom.xml`; their class path
is kept in the checkout's git-ignored `var/kafka/`. Java 17 or later runs it.

Everything here blocks: `RealKafka.start()` for about three seconds (minutes the first time, while
Maven downloads some 90 MB), `RealKafka.stop()` for about one. Call it through `deferToThread` in a
trial test. No reactor is used.

    reason = why_not()

    @skipIf(reason is not None, reason)
    class Tests(TestCase):
        def setUp(self):
            self.kafka = RealKafka()
            self.addCleanup(deferToThread, self.kafka.close)
            return deferToThread(self.kafka.start)
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.programs import run_program
from tests.support.server_process import HOST, ServerError, ServerProcess, free_ports

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_PROJECT = _CHECKOUT / "tests" / "kafka_real"
_CACHE = _CHECKOUT / "var" / "kafka"

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


class RealKafkaError(ServerError):
    """The broker could not be fetched, formatted, started or ended."""


@functools.cache
def why_not() -> str | None:
    """Return a sentence on why no broker can be run here, or `None` if one can.

    Only the tools are checked. If Maven can't fetch the jars, tests fail and are not skipped.
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
    """Return the file that keeps the class path of the present `pom.xml`."""
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
    """Return the broker's class path, resolved with Maven unless an earlier run has done so.

    Several processes may call it at once: one resolves it, the others wait.
    """
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed
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


class RealKafka(ServerProcess):
    """One Kafka broker, its own controller, listening on 127.0.0.1 alone.

    Its port and data survive `stop()` and `kill()`: the next `start()` uses them again, so that
    clients see a broker that was away. `close()` ends it and removes the data, and so does leaving
    the `with` block and the end of this process, even by a signal. All methods block, and must be
    called from one thread at a time.

    Topics that are created by their first use have `partitions` partitions; `properties` are
    further lines of `server.properties`, which override those set below.
    """

    def __init__(self, *, partitions: int = 1, properties: Mapping[str, str] | None = None) -> None:
        super().__init__("kafka", "kafka.Kafka")
        self._port, self._controller_port = free_ports(2)
        self._partitions = partitions
        self._properties = dict(properties or {})

    @property
    def address(self) -> str:
        """The broker's address, `127.0.0.1:port`, which never changes."""
        return f"{HOST}:{self._port}"

    @property
    def port(self) -> int:
        """The port of `address`."""
        return self._port

    def start(self, *, timeout: float = 60.0) -> None:
        """Start the broker and wait until it accepts connections and returns its metadata.

        The first time, its class path is resolved and its storage formatted, which does not count
        towards `timeout`.
        """
        if self.running:
            raise RealKafkaError("the broker is already running")
        jars = class_path()
        directory = self._directory if self._directory is not None else self._prepare(jars)
        self._launch(
            [*self._java(jars, directory), "kafka.Kafka", str(directory / "server.properties")]
        )
        try:
            self._await_answer(time.monotonic() + timeout)
        except BaseException:
            self.kill()
            raise

    def configure(self, properties: Mapping[str, str]) -> None:
        """Set further lines of `server.properties`, for each start from now on."""
        self._properties.update(properties)
        if self._directory is not None:
            # Of several lines for one property, the last one counts.
            with (self._directory / "server.properties").open("a", encoding="utf-8") as file:
                file.writelines(f"{name}={value}\n" for name, value in properties.items())

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
        directory = self._make_directory()
        (directory / "tmp").mkdir()
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{HOST}:{self._port},"
            f"CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self._port}",
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
            # After kill() the controller admits the broker once its old session has expired, by
            # default after 9 seconds.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self._properties,
        }
        (directory / "server.properties").write_text(
            "".join(f"{name}={value}\n" for name, value in properties.items()), encoding="utf-8"
        )
        status, said = run_program(
            [
                *self._java(jars, directory),
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                _CLUSTER_ID,
                "--config",
                str(directory / "server.properties"),
            ],
            folder=directory,
            within=60,
        )
        if status:
            self.close()
            raise RealKafkaError(f"Kafka's storage was not formatted:\n{said[-4000:]}")
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
                socket.create_connection((HOST, self._port), timeout=1.0).close()
                if client is None:
                    client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
                if client.list_topics(timeout=1.0).brokers:
                    return
            except (OSError, KafkaException):
                pass
            time.sleep(0.05)
        raise RealKafkaError(f"the broker did not answer in time:\n{self.log[-4000:]}")
