"""The command: what it says of an hbtd with which something is wrong, and its exit statuses."""

import ssl
import time
from email.utils import formatdate
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.client import Answer
from hbtd.smoke.checking import Wrong
from hbtd.smoke.main import run
from hbtd.smoke.service import Service
from tests.support.certificates import make_identity, write_identity
from tests.support.hbtd_stand_in import free_port, problem, serve

METRICS = b"# x\nhbtd_components 1\nhbtd_heartbeats_total 5\nhbtd_store_usable 1.0\n"


class SmokeTestCase(SynchronousTestCase):
    """Runs hbtd-smoke against a stand-in for hbtd, with which all is well at first."""

    def setUp(self) -> None:
        """Serve it."""
        self.serve()

    def serve(self, context: ssl.SSLContext | None = None) -> None:
        """Serve a stand-in."""
        self.hbtd, self.url = serve(self, context)
        self.hbtd.replies = {
            "/liveness": (204, {}, b""),
            "/metrics": (200, {}, METRICS),
            "/health": (200, {}, {"KvStore": "HBTD_OK", "HsmStatus": "Ready", "MsgBus": ""}),
        }

    def smoke(self, *words: str, wall: Any = None, clock: Any = None, **environ: str) -> int:
        """Run it; the outputs are in `self.out` and `self.err` afterwards."""
        out, err = StringIO(), StringIO()
        given = {"wall": wall, "clock": clock}
        clocks = {name: each for name, each in given.items() if each is not None}
        try:
            return run(words, {"HBTCTL_URL": self.url, **environ}, out, err, **clocks)
        finally:
            self.out, self.err = out.getvalue(), err.getvalue()

    def failed(self, name: str, words: str, *arguments: str, status: int = 1, **more: Any) -> None:
        """Check that one check fails, and why."""
        self.assertEqual(self.smoke(*arguments, **more), status, self.out)
        lines = self.out.splitlines()
        found = [i for i, line in enumerate(lines) if line.startswith("not ok ")]
        self.assertEqual([lines[i].partition(" - ")[2] for i in found], [name], self.out)
        self.assertIn(words, lines[found[0] + 2])


class ServiceTests(SmokeTestCase):
    """What can be wrong with hbtd."""

    def test_well(self) -> None:
        """With nothing wrong the status is 0, and nothing was asked for that changes something."""
        self.assertEqual(self.smoke(), 0, self.out)
        self.assertEqual({method for method, *_ in self.hbtd.asked}, {"GET"})
        self.assertTrue(self.out.startswith("TAP version 14\nok 1 - liveness\n"))
        self.assertTrue(self.out.endswith("\n1..11\n"))

    def test_not_ready(self) -> None:
        """An hbtd that is not ready says why."""
        self.hbtd.replies["/readiness"] = (503, {}, problem(503, "The store can't be used"))
        self.failed("readiness", "not ready: The store can't be used")

    def test_health(self) -> None:
        """Troubles with the store, HSM, Kafka and load are failures of their own."""
        well = self.hbtd.replies["/health"][2]
        self.hbtd.params["Telemetry_host"] = "kafka:9092:topic"
        well["MsgBus"] = "Connected and OPEN"
        for changed, name, words in (
            ({"KvStoreReason": "since 5: the disk is full"}, "health: store", "the disk is full"),
            ({"HsmStatusReason": "since 5: HSM refuses"}, "health: HSM", "HSM refuses"),
            ({"HsmStatus": "Not ready"}, "health: HSM", "Not ready"),
            ({"MsgBus": "Connected and CLOSED"}, "health: Kafka", "CLOSED"),
            ({"MsgBusReason": "since 5: no topic"}, "health: Kafka", "no topic"),
            ({"Overload": "since 5: too many"}, "health: load", "too many"),
        ):
            self.hbtd.replies["/health"] = (200, {}, {**well, **changed})
            self.failed(name, words)

    def test_switched_off(self) -> None:
        """What hbtd is to leave alone is skipped."""
        self.hbtd.params |= {"Nosm": "1", "Use_telemetry": "0", "Telemetry_host": "x:1:y"}
        self.hbtd.replies["/health"][2].update(HsmStatus="Not ready", HsmStatusReason="nosm is set")
        self.assertEqual(self.smoke(), 0, self.out)
        self.assertIn("health: HSM # SKIP hbtd leaves HSM alone (Nosm)", self.out)
        self.assertIn("health: Kafka # SKIP hbtd publishes nothing on Kafka", self.out)

    def test_parameters(self) -> None:
        """Thresholds by which nobody would be warned are a failure; none at all is no hbtd."""
        self.hbtd.params["Errtime"] = "10"
        self.failed("parameters", "Warntime 10 is not below Errtime 10")
        del self.hbtd.params["Errtime"]
        self.failed("parameters", "not one of this release of hbtd", status=5)

    def test_metrics(self) -> None:
        """Failed self-checks, and metrics of somebody else, are failures."""
        self.hbtd.replies["/metrics"] = (
            200, {}, METRICS + b'hbtd_self_check_failures_total{check="a"} 2.0\n'
        )  # fmt: skip
        self.failed("metrics", "found itself wrong 2 times")
        self.hbtd.replies["/metrics"] = (200, {}, b"# go\ngo_threads 5\n")
        self.failed("metrics", "there is no hbtd_components")

    def test_clock(self) -> None:
        """Clocks that are apart are a failure, in either direction."""
        for ahead, words in ((-60, "s ahead of this host's"), (60, "s behind this host's")):
            self.failed("clock", words, wall=lambda ahead=ahead: time.time() + ahead)

    def test_seconds(self) -> None:
        """What a Date leaves out of a second, and what the answer takes, is no difference."""

        class API:
            def call(self, *args: object, **kwargs: object) -> Answer:
                moments.pop(0)
                return Answer(204, {"Date": formatdate(1.8e9, usegmt=True)}, b"")

        api: Any = API()
        for before, after, wrong in (
            (-5.0, -4.9, ""),
            (-7.0, -5.5, "5.5 s ahead"),
            (5.9, 6.5, ""),
            (6.5, 30.0, "5.5 s behind"),
        ):
            moments = [1.8e9 + before, 0.0, 1.8e9 + after]
            wall = lambda moments=moments: moments[0] if len(moments) > 2 else moments[-1]  # noqa: E731
            service = Service(api, lambda: None, wall, most_apart=5.0, least_days=7.0)
            service.liveness()
            if wrong:
                self.assertIn(wrong, str(self.assertRaises(Wrong, service.clock)))
            else:
                service.clock()

    def test_certificate(self) -> None:
        """A certificate that expires soon is a failure, also where it is not verified."""
        identity = make_identity("localhost", days=5)
        cert, key = write_identity(identity, Path(self.mktemp()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.serve(context)
        for ca in (str(cert), "insecure"):
            self.failed("certificate", "renew it", "--ca", ca)
            self.assertEqual(self.smoke("--ca", ca, "--days", "4"), 0, self.out)

    def test_refused(self) -> None:
        """Metrics that are for operators take a token: status 4."""
        self.hbtd.replies["/metrics"] = (401, {}, problem(401, "This takes an operator"))
        self.failed("metrics", "--token-file gives a token", status=4)

    def test_first_status(self) -> None:
        """The status is that of the first check that has failed."""
        self.hbtd.ready = False
        self.hbtd.replies["/readiness"] = (503, {}, problem(503, "no"))
        self.hbtd.replies["/metrics"] = (401, {}, problem(401, "no"))
        self.assertEqual(self.smoke(), 1)


class NobodyTests(SmokeTestCase):
    """There is no hbtd."""

    def test_unreachable(self) -> None:
        """Nobody listens: status 3, and the rest is not tried."""
        self.url = f"http://localhost:{free_port()}"
        self.failed("liveness", "Connection refused", "--xname", "x9999c0s0b0n0", status=3)
        self.assertIn(f"1..1\nBail out! {self.url} does not answer", self.out)

    def test_stranger(self) -> None:
        """Another server: it is said that this is no hbtd, and nothing is sent to it."""
        self.hbtd.replies["/liveness"] = (200, {}, b"<html>Welcome!</html>")
        self.failed("liveness", "perhaps not hbtd", "--xname", "x9999c0s0b0n0")
        self.assertEqual([method for method, *_ in self.hbtd.asked], ["GET"])

    def test_usage(self) -> None:
        """What is wrong with the command line is said in one line: status 2."""
        for words in (
            ("--xname", "nid1"),
            ("--hsm-url", "http://hsm/hsm/v2"),
            ("--days", "x"),
            ("-o", "xml"),
            ("there",),
        ):
            with self.assertRaises(SystemExit) as raised:
                self.smoke(*words)
            self.assertEqual(raised.exception.code, 2)
        self.assertEqual(self.smoke("--token-file", "/nowhere"), 2)
        self.assertIn("hbtd-smoke: --token-file /nowhere can't be read", self.err)
        self.assertEqual(self.smoke("--xname", "x0c0s0b0n0", "--hsm-url", "hsm"), 2)
        self.assertIn("--hsm-url hsm can't be used", self.err)
        self.assertEqual(self.hbtd.asked, [])


class ReportTests(SmokeTestCase):
    """The forms of output hold what a hostile server says."""

    HOSTILE = "a#b\\c\n1..1\nnot ok 7 - x\n  ...\nBail out! ]]><x>&\x1b[2J\x00\u202e"

    def setUp(self) -> None:
        """Have hbtd say something hostile."""
        super().setUp()
        self.hbtd.replies["/health"][2]["HsmStatusReason"] = self.HOSTILE

    def test_tap(self) -> None:
        """Each line is one of ours, and the numbers rise."""
        self.assertEqual(self.smoke(), 1)
        self.assertTrue(self.out.isascii())
        results = [line for line in self.out.splitlines() if line.startswith(("ok ", "not ok "))]
        numbers = [int(line.removeprefix("not ").split()[1]) for line in results]
        self.assertEqual(numbers, list(range(1, 12)))
        self.assertEqual(self.out.count("\n1..11\n"), 1)
        self.assertNotIn("\nBail out!", self.out)

    def test_junit(self) -> None:
        """The document is well-formed, and counts what it has."""
        self.assertEqual(self.smoke("-o", "junit"), 1)
        suite = ElementTree.fromstring(self.out)
        self.assertEqual(suite.attrib["tests"], str(len(suite.findall("testcase"))))
        self.assertEqual(suite.attrib["failures"], "1")
        (failure,) = suite.findall("testcase/failure")
        self.assertIn("]]><x>&\\x1b[2J\\x00\\u202e", failure.attrib["message"])
        self.assertEqual(suite.attrib["skipped"], str(len(suite.findall("testcase/skipped"))))

    def test_junit_given_up(self) -> None:
        """If not all checks were run, the document has an error that says why: no hbtd, Ctrl-C."""
        self.hbtd.replies["/liveness"] = (404, {}, b"")
        self.assertEqual(self.smoke("-o", "junit"), 5)
        self.check_error("not run: http")

        def interrupt() -> float:
            if any(path == "/readiness" for _, path, *_ in self.hbtd.asked):
                raise KeyboardInterrupt
            return time.monotonic()

        self.hbtd.replies["/liveness"] = (204, {}, b"")
        self.assertEqual(self.smoke("-o", "junit", clock=interrupt), 130)
        self.check_error("not run: interrupted")

    def check_error(self, words: str) -> None:
        """Check that the document has one error, which it counts, with these words."""
        suite = ElementTree.fromstring(self.out)
        self.assertEqual(suite.attrib["tests"], str(len(suite.findall("testcase"))))
        self.assertEqual(suite.attrib["errors"], "1")
        (error,) = suite.findall("testcase/error")
        self.assertIn(words, error.attrib["message"])

    def test_reader_gone(self) -> None:
        """When nobody reads the output any more, the checks go on to their end."""

        class Gone(StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        status = run((), {"HBTCTL_URL": self.url}, Gone(), StringIO())
        self.assertEqual(status, 1)
        self.assertIn("/metrics", [path for _, path, *_ in self.hbtd.asked])
