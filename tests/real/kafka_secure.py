"""hbtd, and a real Apache Kafka with TLS, client certificates, and users."""

import functools
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import skipIf

from kafka.errors import KafkaError, KafkaTimeoutError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.config.params import Params
from hbtd.config.value_types import parse_telemetry_host
from hbtd.telemetry.kafka import Kafka, check_connection
from hbtd.telemetry.security import KafkaSecurity
from hbtd.tracker.transitions import Transition
from tests.support.certificates import make_identity, revocation_list, write_identity
from tests.support.kafka_nodes import HBTD, Nodes
from tests.support.mock_kafka import consume
from tests.support.processes import spawn
from tests.support.real_kafka import why_not
from tests.support.running import NODE, WebClient, reactor, until
from tests.support.secure_kafka import SecureKafka
from tests.support.strict_hsm import StrictHSM
from tests.support.telemetry import contents, message

REASON = why_not()

Result = TypeVar("Result")

PASSWORDS = ("first-password", "second-password", "wrong-password")
TOKENS = ("the-first-token", "the-second-token")
NODES = [f"x1000c0s{slot}b0n0" for slot in range(5)]


def options(params: Mapping[str, Any]) -> list[str]:
    """Return parameters as a command line has them."""
    return [f"--{name}={'yes' if value is True else value}" for name, value in params.items()]


@functools.cache
def shared_kafka() -> SecureKafka:
    """Return the broker of all tests here, which ends with this process."""
    return SecureKafka(Path("secure-kafka").resolve())


@skipIf(REASON is not None, REASON or "")
class SecureTestCase(TestCase):
    """A broker, and the files of an hbtd."""

    timeout = 240

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.kafka = shared_kafka()
        if not self.kafka.running:
            await deferToThread(self.kafka.start)
        self.folder = Path(self.mktemp()).resolve()
        self.cert, self.key = self.kafka.certify(self.folder / "own")
        self.login = self.folder / "login"
        self.write("first-password")
        self.login.chmod(0o600)
        await deferToThread(self.kafka.set_password, "first-password")
        await deferToThread(self.settle)

    def write(self, password: str) -> None:
        """Write the file of the login."""
        self.login.write_text(f"hbtd:{password}\n")

    def params(self, **others: Any) -> dict[str, Any]:
        """Return parameters by which the broker is reached, or not."""
        return {
            "telemetry_host": f"{self.kafka.secure_address}:hbtd.{self._testMethodName}",
            "telemetry_tls": True,
            "telemetry_ca": str(self.kafka.bundle),
            "telemetry_cert": str(self.cert),
            "telemetry_key": str(self.key),
            "telemetry_login": str(self.login),
            **others,
        }

    def connect(self, **others: Any) -> str:
        """Connect, and return why that was not possible; this blocks."""
        params = self.params(**others)
        settings = KafkaSecurity(Params(kv_url="mem:", **params)).settings()
        try:
            check_connection(parse_telemetry_host(params["telemetry_host"]), settings)
        except KafkaError as error:
            return str(error)
        return ""

    def settle(self) -> None:
        """Wait until the broker has the password; this blocks."""
        deadline = time.monotonic() + 30
        while why := self.connect():
            assert time.monotonic() < deadline, why


class ProcessTestCase(SecureTestCase):
    """hbtd as a process, beside nodes that beat."""

    async def start(self, *words: str) -> None:
        """Start hbtd with the arguments `words`."""
        self.process = spawn(self, words)
        self.nodes = Nodes(WebClient(self), await self.process.url)

    async def beat_until(self, condition: Callable[[], object], names: Sequence[str]) -> None:
        """Have nodes beat until a condition is true."""
        deadline = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < deadline, self.process.said
            for name in names:
                await self.nodes.beat(name, "now")
            await deferLater(reactor, 0.2)

    async def meanwhile(
        self, names: Sequence[str], work: Callable[..., Result], *args: object
    ) -> Result:
        """Call something that blocks, have nodes beat until it returns, and return its result."""
        result = deferToThread(work, *args)
        await self.beat_until(lambda: result.called, names)
        return await result

    def accepted(self) -> int:
        """Return how often hbtd has logged that Kafka accepts messages."""
        return self.process.said.count("accepts messages")


class ConnectionTests(SecureTestCase):
    """Connections with right and wrong credentials."""

    def publish(self, **others: Any) -> int:
        """Publish a message, and return its offset; this blocks."""
        params = self.params(**others)
        settings = KafkaSecurity(Params(kv_url="mem:", **params)).settings()
        address = parse_telemetry_host(params["telemetry_host"])
        deadline = time.monotonic() + 30
        while True:
            try:
                kafka = Kafka(address, **settings)
                break
            except KafkaTimeoutError:  # a slow broker makes the topic, and hbtd would try again
                assert time.monotonic() < deadline
        try:
            return int(kafka.send(b"key", b"value").get(timeout=10).offset)
        finally:
            kafka.abandon()

    async def refusal(self, **others: Any) -> str:
        """Return why the broker refuses a connection, once it does."""
        deadline = time.monotonic() + 30
        why = ""
        # On a slow machine its answer may take longer than a check.
        while not why or "does not answer like Kafka" in why:
            self.assertLess(time.monotonic(), deadline, why)
            why = await deferToThread(functools.partial(self.connect, **others))
        return why

    async def test_right(self) -> None:
        """With each mechanism a message is published."""
        for number, mechanism in enumerate(("scram-sha-256", "scram-sha-512", "plain")):
            if mechanism == "plain":
                self.write(self.kafka.plain_password)
            offset = await deferToThread(self.publish, telemetry_sasl=mechanism)
            self.assertEqual(offset, number)

    async def test_wrong_password(self) -> None:
        """A wrong password is said to be refused, with the user's name and without the password."""
        self.write("wrong-password")
        for mechanism in ("scram-sha-512", "plain"):
            why = await self.refusal(telemetry_sasl=mechanism)
            self.assertIn("it refuses the user 'hbtd' of --telemetry_login: Auth", why)
            self.assertNotIn("wrong-password", why)

    async def test_wrong_certificate(self) -> None:
        """A certificate of another authority is said to be refused."""
        cert, key = self.kafka.certify(self.folder / "wrong", make_identity("others"))
        why = await deferToThread(self.connect, telemetry_cert=str(cert), telemetry_key=str(key))
        self.assertIn("TLS fails, see --telemetry_ca and --telemetry_cert: ", why)
        self.assertIn("certificate unknown", why)

    async def test_expired_certificate(self) -> None:
        """A certificate that has expired since it was read is said to be refused."""
        cert, key = self.kafka.certify(self.folder / "short", days=4 / 86_400)
        params = self.params(telemetry_cert=str(cert), telemetry_key=str(key))
        settings = KafkaSecurity(Params(kv_url="mem:", **params)).settings()
        address = parse_telemetry_host(params["telemetry_host"])
        await deferToThread(check_connection, address, settings)
        why = ""
        deadline = time.monotonic() + 30
        while not why:
            self.assertLess(time.monotonic(), deadline)
            try:
                await deferToThread(check_connection, address, settings)
            except KafkaError as error:
                why = str(error)
        self.assertIn("TLS fails, see --telemetry_ca and --telemetry_cert: ", why)

    async def test_removed_user(self) -> None:
        """A user that the broker no longer knows is said to be refused."""
        await deferToThread(self.kafka.remove_user)
        why = await self.refusal()
        self.assertIn("it refuses the user 'hbtd' of --telemetry_login: Auth", why)
        self.assertNotIn("first-password", why)

    async def test_untrusted(self) -> None:
        """A broker that no trusted authority has certified is not sent the password."""
        why = await deferToThread(self.connect, telemetry_ca=str(self.cert))
        self.assertIn("TLS fails, see --telemetry_ca and --telemetry_cert: ", why)

    async def test_without(self) -> None:
        """Without a login the option for it is named."""
        why = await deferToThread(self.connect, telemetry_login="")
        self.assertIn("does it ask for --telemetry_login?", why)


class RotationTests(SecureTestCase):
    """hbtd as a process, while the password changes."""

    async def test_rotated(self) -> None:
        """What happens while the password is wrong, or has ended, is published with the right one.

        Every transition is there once, in order; the log says what is refused, in one line, and has
        no password.
        """
        self.write("wrong-password")
        process = spawn(self, [*HBTD, "--warntime=1", "--errtime=4", *options(self.params())])
        nodes = Nodes(WebClient(self), await process.url)
        await nodes.beat(NODE, "one")
        await until(lambda: "refuses the user" in process.said, 60)
        self.write("first-password")
        await until(lambda: "accepts messages" in process.said, 60)
        await nodes.until_published(1)
        # On a slow machine there may have been another reason before.
        before = process.said.count("accepts no messages")
        topic = f"hbtd.{self._testMethodName}"
        await deferToThread(self.kafka.set_password, "second-password")
        # The broker has sessions end after two seconds.
        await until(lambda: process.said.count("accepts no messages") > before, 60)
        await until(lambda: "declared dead" in process.said)
        await nodes.beat(NODE, "two")
        self.write("second-password")
        process.signal(signal.SIGHUP)
        await until(lambda: process.said.count("accepts messages") == 2, 60)
        found = contents(await deferToThread(consume, self.kafka.address, topic, 4, 30.0))
        self.assertEqual(
            found,
            [
                message(NODE, "one", Transition.STARTED),
                message(NODE, "one", Transition.WARNED),
                message(NODE, "one", Transition.DIED),
                message(NODE, "two", Transition.STARTED),
            ],
        )
        self.assertLessEqual(process.said.count("accepts no messages"), before + 2)
        self.assertEqual(process.said.count("refuses the user"), 1)
        self.assertNotIn("Traceback", process.said)
        for password in PASSWORDS:
            self.assertNotIn(password, process.said)


class OutageTests(ProcessTestCase):
    """A node dies while hbtd and Kafka don't agree on who they are, and another one goes on."""

    async def outage(
        self,
        spoil: Callable[[], object],
        why: str,
        mend: Callable[[], object],
        **params: Any,
    ) -> None:
        """Have a node die after `spoil`; check what is logged, and published after `mend`.

        Both block. Between them hbtd has `why` in the reason for which it publishes nothing.
        """
        topic = f"hbtd.{self._testMethodName}"
        nodes = living, dying = NODES[:2]
        await self.start(*HBTD, "--warntime=3", "--errtime=6", *options(self.params(**params)))
        await self.beat_until(self.accepted, nodes)
        await self.nodes.until_published(len(nodes), nodes)
        await self.meanwhile(nodes, spoil)
        await self.beat_until(lambda: why in self.process.said, nodes)
        await self.beat_until(lambda: f"declared dead: {dying}" in self.process.said, [living])
        self.assertEqual(self.accepted(), 1)
        started = [message(name, "now") for name in nodes]
        found = await self.meanwhile([living], consume, self.kafka.address, topic)
        self.assertEqual(contents(found), started)
        await self.meanwhile([living], mend)
        await self.beat_until(lambda: self.accepted() > 1, [living])
        later = [message(dying, "now", each) for each in (Transition.WARNED, Transition.DIED)]
        count = len([*started, *later])
        await self.meanwhile([living], consume, self.kafka.address, topic, count)
        found = await self.meanwhile([living], consume, self.kafka.address, topic)
        self.assertEqual(contents(found), [*started, *later])
        said = self.process.said
        # A broker that starts anew may be seen as one that is away, and then as one that refuses.
        lines = [line.partition("accepts no messages")[2] for line in said.splitlines()]
        reasons = [reason for reason in lines if reason]
        self.assertEqual(len(reasons), len(set(reasons)), reasons)
        self.assertEqual(len([reason for reason in reasons if why in reason]), 1, reasons)
        self.assertNotIn("Traceback", said)
        for password in PASSWORDS:
            self.assertNotIn(password, said)

    async def test_plain_rotated(self) -> None:
        """After a broker's start with another password for PLAIN, hbtd takes that from its file."""
        first, second = PASSWORDS[:2]
        await deferToThread(self.kafka.set_plain_password, first)
        await self.outage(
            lambda: self.kafka.set_plain_password(second),
            "it refuses the user 'hbtd' of --telemetry_login: Auth",
            lambda: self.write(second),
            telemetry_sasl="plain",
        )

    async def test_server_expired(self) -> None:
        """A broker whose certificate has expired is told nothing, until it has another one."""
        self.addCleanup(deferToThread, self.kafka.renew)

        def expire() -> None:
            expires = self.kafka.renew(1 / 86_400)
            time.sleep(max(0.0, expires.timestamp() + 1 - time.time()))
            # A connection outlasts the certificate that it was made with.
            self.kafka.restart()

        await self.outage(expire, "certificate has expired", self.kafka.renew)


class StoryTests(ProcessTestCase):
    """hbtd as a process beside an HSM and a Kafka that both ask who it is."""

    async def test_all_rotated(self) -> None:
        """While all of hbtd's credentials are replaced, late, a death is told once to both.

        No living node is told dead, and nothing that was judged is lost. The log names what is
        refused, and has no secret.
        """
        topic = f"hbtd.{self._testMethodName}"
        clients = make_identity("nodes", days=60)
        hsm = StrictHSM(self, self.folder / "hsm", TOKENS[0])
        await hsm.serve(clients, revocation_list(clients))
        own = make_identity("hbtd", clients, days=60)
        cert, key = write_identity(own, self.folder / "hsm-client")
        token = self.folder / "token"
        token.write_text(TOKENS[0])
        token.chmod(0o600)
        await self.start(
            *("-m", "hbtd", "--kv_url=mem:", "--port=0", "--interval=1"),
            *("--warntime=4", "--errtime=8", f"--sm_url={hsm.url}", f"--sm_ca={hsm.bundle}"),
            *(f"--sm_cert={cert}", f"--sm_key={key}", f"--sm_token={token}"),
            *options(self.params()),
        )
        process = self.process
        living, dying = NODES[:-1], NODES[-1]
        await self.beat_until(lambda: all(hsm.told(name) == ["Ready"] for name in NODES), NODES)
        await self.beat_until(lambda: "accepts messages" in process.said, NODES)
        await self.nodes.until_published(len(NODES), NODES)
        # Certificate, token and password are of no use any more; then a node dies.
        await hsm.serve(clients, revocation_list(clients, own))
        hsm.set_token(TOKENS[1])
        await self.meanwhile(living, self.kafka.set_password, "second-password")
        await self.beat_until(lambda: f"declared dead: {dying}" in process.said, living)
        await self.beat_until(lambda: "certificate revoked" in process.said, living)
        await self.beat_until(lambda: "refuses the user" in process.said, living)
        self.assertNotIn("Standby", hsm.told(dying))
        write_identity(make_identity("hbtd", clients, days=60), self.folder / "hsm-client")
        self.kafka.certify(self.folder / "own")
        process.signal(signal.SIGHUP)
        await self.beat_until(lambda: "not ready: 401" in process.said, living)
        token.write_text(TOKENS[1])
        self.write("second-password")
        process.signal(signal.SIGHUP)
        await self.beat_until(lambda: "Standby" in hsm.told(dying), living)
        await self.beat_until(lambda: self.accepted() == 2, living)
        for name in living:
            self.assertNotIn("Standby", hsm.told(name))
        self.assertEqual(hsm.told(dying).count("Standby"), 1)
        expected = {name: [Transition.STARTED] for name in living}
        expected[dying] = [Transition.STARTED, Transition.WARNED, Transition.DIED]
        count = sum(map(len, expected.values()))
        messages = await self.meanwhile(living, consume, self.kafka.address, topic, count)
        found = contents(messages)
        for name, transitions in expected.items():
            told = [each for each in found if name in str(each)]
            self.assertEqual(told, [message(name, "now", each) for each in transitions])
        self.assertNotIn("Traceback", process.said)
        for what in ("certificate revoked", "not ready: 401", "refuses the user"):
            lines = [line for line in process.said.splitlines() if what in line]
            self.assertLessEqual(len(lines), 2, lines)
        for secret in (*PASSWORDS, *TOKENS):
            self.assertNotIn(secret, process.said)
