"""hbtd's unit in a system with a real systemd."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.processes import CHECKOUT
from tests.support.systemd_root import SystemdRoot

_PYTHON = "/opt/python"
_SITE = "/opt/site-packages"
_CHECKOUT = "/opt/checkout"
_SCRIPT = f"""#!/bin/sh
export LD_LIBRARY_PATH={_PYTHON}/lib PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={_CHECKOUT}:{_SITE}
exec {_PYTHON}/bin/{Path(sys.executable).resolve().name} -c 'from hbtd.cli import main; main()' "$@"
"""
UNITS = CHECKOUT / "deploy" / "systemd"

OPTIONS = {
    "KV_URL": "sqlite:/var/lib/hbtd/hbtd.sqlite",
    "NOSM": "yes",
    "USE_TELEMETRY": "no",
}


class SystemdHbtd(SystemdRoot):
    """A system with hbtd's units, its user, and the hbtd of this checkout in /opt/hbtd."""

    def __init__(self, test: SynchronousTestCase, **options: str) -> None:
        """Boot it until the test ends; `options` are added to `OPTIONS`."""
        site = next(each for each in map(Path, sys.path) if each.name == "site-packages")
        binds = {
            Path(sys.base_prefix): _PYTHON,
            site: _SITE,
            CHECKOUT / "hbtd": f"{_CHECKOUT}/hbtd",
            CHECKOUT / "twisted": f"{_CHECKOUT}/twisted",
        }
        super().__init__(test, binds)
        self._test = test
        self.write("/opt/hbtd/bin/hbtd", _SCRIPT, 0o755)
        self.options(options)
        for name in ("hbtd.service", "hbtd.socket"):
            self.copy_in(UNITS / name, f"/lib/systemd/system/{name}")
        self.copy_in(UNITS / "hbtd.sysusers", "/lib/sysusers.d/hbtd.conf")
        self.copy_in(UNITS / "hbtd.tmpfiles", "/lib/tmpfiles.d/hbtd.conf")
        self.run("systemd-sysusers", "hbtd.conf")
        self.run("systemd-tmpfiles", "--create", "hbtd.conf")
        self.run("systemctl", "daemon-reload")
        status, said = self.status("/opt/hbtd/bin/hbtd", "--version")
        if status != 0:
            raise SkipTest(f"This Python does not run in that system: {said}")

    def options(self, options: Mapping[str, str]) -> None:
        """Write /etc/hbtd/hbtd.env with `OPTIONS` and these, which are `WARNTIME` and the like."""
        both = {**OPTIONS, **options}
        text = "".join(f"HBTD_{name}={value}\n" for name, value in both.items())
        self.write("/etc/hbtd/hbtd.env", text)

    def drop_in(self, text: str, unit: str = "hbtd.service") -> None:
        """Change a unit."""
        self.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
        self.run("systemctl", "daemon-reload")

    def client(self, script: str, *arguments: str) -> "subprocess.Popen[str]":
        """Run a Python script of this host, with `arguments`, in the network of the system."""
        inside = ("nsenter", "-t", str(self.pid), "-n", sys.executable, "-c", script)
        client = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *inside, *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._test.addCleanup(client.kill)
        return client

    def beat(self, xname: str, port: int = 28500) -> int:
        """Send a heartbeat over TLS; return the status of the answer."""
        with self.client(_BEAT, xname, str(port)) as client:
            said, _ = client.communicate(timeout=20)
        return int(json.loads(said))

    @property
    def state(self) -> str:
        """The state of the unit, such as "active"."""
        return self.show("hbtd", "ActiveState")

    @property
    def restarts(self) -> int:
        """How often systemd has restarted it by itself."""
        return int(self.show("hbtd", "NRestarts"))


_BEAT = """
import http.client, json, ssl, sys, time
context = ssl._create_unverified_context()
client = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[2]), context=context, timeout=10)
body = {"Component": sys.argv[1], "Hostname": "h", "NID": "1", "Status": "OK", "Timestamp": "t"}
client.request("POST", "/hmi/v1/heartbeat", json.dumps(body))
print(client.getresponse().status)
client.close()
"""
