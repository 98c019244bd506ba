"""The image, made by the Dockerfile's own steps, runs as an engine would run it.

The root is read-only, the user is 65534 without capabilities, and the first process is the init.
"""

import json
import os
import re
import signal
from pathlib import Path
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.support.image import Container, image, why_not
from tests.support.systemd_root import attempts

QUIET = {"KV_URL": "mem:", "HBTD_NOSM": "yes", "USE_TELEMETRY": "no"}
"""An environment for an hbtd that needs no other service."""


@skipIf(why_not() is not None, str(why_not()))
class ImageTests(SynchronousTestCase):
    """What is in the image."""

    def test_user(self) -> None:
        """It says that it runs as a number, which Kubernetes can tell from root."""
        self.assertEqual(image().says["USER"], "65534:65534")

    def test_no_tools(self) -> None:
        """Nothing is in it that builds or installs Python packages, nor what apt has downloaded."""
        top = image().folder / "upper"
        found = [
            str(each) for each in top.rglob("*") if each.name in ("pip", "setuptools", "wheel")
        ]
        # An overlay notes as devices what was removed from the base.
        self.assertEqual([each for each in found if not Path(each).is_char_device()], [])
        lists = top / "var" / "lib" / "apt" / "lists"
        self.assertEqual([each for each in lists.rglob("*") if each.is_file()], [])

    def test_bytecode(self) -> None:
        """All modules are compiled, and no bytecode has a time in it, by which builds differ."""
        site = image().folder / "upper" / "opt" / "hbtd" / "lib"
        compiled = list(site.rglob("*.pyc"))
        self.assertGreater(len(compiled), 500)
        self.assertEqual({each.read_bytes()[4:8] for each in compiled}, {b"\x01\0\0\0"})


@skipIf(why_not() is not None, str(why_not()))
class ContainerTests(SynchronousTestCase):
    """A running container."""

    def start(self, *arguments: str, **environ: str) -> Container:
        """Run hbtd in a container until it serves."""
        container = Container(self, *arguments, **{**QUIET, **environ})
        container.until("serves ")
        return container

    def health(self, container: Container) -> tuple[int, str]:
        """Run the image's health check in a container."""
        command = json.loads(image().says["HEALTHCHECK"].partition("CMD ")[2])
        return container.execute(*command)

    def test_life(self) -> None:
        """As 65534, on a read-only root, hbtd serves, is healthy, and stops in good order."""
        container = self.start()
        status = Path(f"/proc/{container.pid}/status").read_text()
        self.assertRegex(status, r"\nUid:\t65534\t65534\t65534\t65534\n")
        self.assertRegex(status, r"\nCapEff:\t0+\n")
        self.assertEqual(Path(f"/proc/{container.pid}/comm").read_text(), "tini\n")
        self.assertNotEqual(container.execute("touch", "/opt/hbtd/x")[0], 0)
        self.assertEqual(self.health(container), (0, ""))
        container.signal(signal.Signals[image().says["STOPSIGNAL"]])
        self.assertEqual(container.wait(), 0, container.said)
        self.assertNotIn("Traceback", container.said)

    def test_unhealthy(self) -> None:
        """An hbtd that is stopped, as one that hangs, is not healthy; it is again afterwards."""
        container = self.start("--port=28777", HBTD_TLS="no")
        self.assertEqual(self.health(container), (0, ""))
        (child,) = self.children(container)
        os.kill(child, signal.SIGSTOP)
        status, said = self.health(container)
        self.assertEqual(status, 1)
        self.assertRegex(said, "^hbtd: no answer from localhost:28777: timed out$")
        os.kill(child, signal.SIGCONT)
        self.assertEqual(self.health(container), (0, ""))

    def children(self, container: Container) -> list[int]:
        """Return the processes that the init has not reaped, by their numbers on this host."""
        path = f"/proc/{container.pid}/task/{container.pid}/children"
        return [int(each) for each in Path(path).read_text().split()]

    def test_zombies(self) -> None:
        """What an executed command leaves behind is reaped by the init when it ends."""
        container = self.start()
        hbtd = self.children(container)
        container.execute("sh", "-c", "(sleep 1000 & sleep 1000 & sleep 1000 &) > /dev/null 2>&1")
        left = set(self.children(container)) - set(hbtd)
        self.assertEqual(len(left), 3)
        for each in left:
            os.kill(each, signal.SIGKILL)
        for _ in attempts(20):
            if self.children(container) == hbtd:
                return
        self.fail(f"{self.children(container)} are not reaped")

    def test_original_environment(self) -> None:
        """The variables of the original's image set the parameters that hbtd runs with."""
        container = self.start(
            DEBUG="1",
            ERRTIME="60",
            WARNTIME="35",
            SM_URL="http://cray-smd/hsm/v1",
            TELEMETRY_HOST="kafka:9092:topic",
            HBTD_WARNTIME="36",
        )
        said = container.execute("hbtctl", "--ca", "insecure", "-o", "json", "params")[1]
        params = json.loads(said)
        expected = {
            "Debug": "1",
            "Errtime": "60",
            "Warntime": "36",
            "Sm_url": "http://cray-smd/hsm/v1",
            "Kv_url": "mem:",
            "Use_telemetry": "0",
            "Telemetry_host": "kafka:9092:topic",
        }
        self.assertEqual({name: params[name] for name in expected}, expected)

    def test_refused(self) -> None:
        """A value that can't be used, and no store, end it with status 2 and one line."""
        for environ, said in (
            ({"ERRTIME": "abc"}, "^hbtd: ERRTIME='abc' can't be used: it must be a whole number"),
            ({"KV_URL": ""}, "^hbtd: --kv_url is empty, and ETCD_HOST and ETCD_PORT don't say"),
        ):
            container = Container(self, **{**QUIET, **environ})
            self.assertEqual(container.wait(), 2)
            self.assertRegex(container.said, said)
            self.assertEqual(container.said.count("\n"), 1)

    def test_etcd_of_the_chart(self) -> None:
        """The image's empty `KV_URL` leads to the etcd at `ETCD_HOST` and `ETCD_PORT`."""
        self.assertEqual(image().environ["KV_URL"], "")
        container = self.start(KV_URL="", ETCD_HOST="127.0.0.1", ETCD_PORT="1")
        self.assertIsNotNone(re.search(r"http://127\.0\.0\.1:1\b", container.said), container.said)
