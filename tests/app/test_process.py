"""hbtd as a process: how it is started and stopped, and how it fails to start."""

import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from hbtd import __version__
from hbtd.formats.nodesets import expand
from hbtd.simulator.endpoints import client_endpoint
from hbtd.simulator.fleet import Fleet, node_names
from tests.support.certificates import make_identity, old_root_chain, write_identity
from tests.support.prepared import run_prepared
from tests.support.processes import CHECKOUT, MEMORY, HbtdProcess, spawn
from tests.support.running import NODE, WebClient, heartbeat, reactor, start_hsm, until
from tests.support.short_paths import short_folder

SEED_OPTIONS = (
    "--sm_url=https://localhost:27999/hsm/smd/v1",
    "--port=28501",
    "--use_telemetry=no",
    "--kv_url=mem:",
)
ENVIRONMENT = {
    "HBTD_KV_URL": "mem:",
    "HBTD_PORT": "0",
    "HBTD_NOSM": "yes",
    "HBTD_USE_TELEMETRY": "no",
}


class StartTests(TestCase):
    """Every way to start hbtd serves heartbeats."""

    timeout = 240

    async def serves(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str] | None = None,
        cwd: Path = CHECKOUT,
    ) -> HbtdProcess:
        """Start hbtd, send it a heartbeat, check that it is tracked, and stop hbtd."""
        process = spawn(self, arguments, environ, cwd)
        url = await process.url
        client = WebClient(self)
        status, _ = await client.request("POST", f"{url}/hmi/v1/heartbeat", heartbeat())
        self.assertEqual(status, 200)
        _, state = await client.request("GET", f"{url}/v1/hbstate/{NODE}")
        self.assertEqual(state, {"XName": NODE, "Heartbeating": True})
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.ended, 0, process.said)
        self.assertNotIn("Traceback", process.said)
        return process

    async def test_command(self) -> None:
        """The documented command line serves over TLS, and stops although HSM is unreachable."""
        process = await self.serves(["-m", "hbtd", *SEED_OPTIONS, "--sm_timeout=1"])
        self.assertIn("serves https://", process.said)
        self.assertIn("HSM was not notified of 1 component before", process.said)

    async def test_plugin(self) -> None:
        """`twistd -n hbtd` serves over TLS, and its log is hbtd's."""
        process = await self.serves(_twistd("hbtd", *MEMORY))
        self.assertIn("Heartbeat started: ", process.said)

    async def test_tac(self) -> None:
        """`twistd -ny hbtd.tac` serves over TLS, with options from the environment."""
        process = await self.serves(
            _twistd("-y", "hbtd.tac"),
            {**ENVIRONMENT, "HBTD_LOG_FORMAT": "json"},
        )
        self.assertIn('"message":"Heartbeat started: x1000c0s0b0n0"', process.said)

    async def test_wheel(self) -> None:
        """Installed from a wheel, outside of the checkout, the command and the plugin serve."""
        there = Path(self.mktemp()).resolve()
        there.mkdir(parents=True)
        # The build directory of the checkout may have modules that were deleted since.
        settings = there / "build.cfg"
        settings.write_text(f"[build]\nbuild_base = {there / 'build'}\n")
        await self._python(
            *("-m", "build", "--wheel", "--no-isolation", "--outdir", there, CHECKOUT),
            DIST_EXTRA_CONFIG=str(settings),
        )
        (wheel,) = there.glob("hbtd-*.whl")
        packages, elsewhere = there / "packages", there / "elsewhere"
        elsewhere.mkdir()
        await self._python("-m", "pip", "install", "-q", "--no-deps", "--target", packages, wheel)
        environ = {"PYTHONPATH": str(packages)}
        await self.serves(["-m", "hbtd", *MEMORY], environ, elsewhere)
        await self.serves(_twistd("hbtd", *MEMORY), environ, elsewhere)
        self.assertEqual(_modules(packages), _modules(CHECKOUT))
        self.assertTrue((packages / "hbtd" / "api" / "openapi.json").exists())
        self.assertTrue((packages / "bin" / "hbtd").exists())

    async def test_plain_http(self) -> None:
        """With `--tls=no` it serves plain HTTP."""
        process = await self.serves(["-m", "hbtd", *MEMORY, "--tls=no"])
        self.assertIn("serves http://", process.said)

    async def test_endpoint(self) -> None:
        """`--listen` takes a Twisted endpoint instead of port and TLS."""
        await self.serves(["-m", "hbtd", *MEMORY, "--listen=tcp:0:interface=127.0.0.1"])

    async def test_own_certificate(self) -> None:
        """The given certificate is served."""
        cert, key = write_identity(make_identity("localhost"), Path(self.mktemp()).resolve())
        await self.serves(["-m", "hbtd", *MEMORY, f"--tls_cert={cert}", f"--tls_key={key}"])

    async def _python(self, *arguments: object, **environ: str) -> None:
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            [str(argument) for argument in arguments],
            env={**os.environ, **environ},
        )
        self.assertEqual(status, 0, (out + err).decode())


class EndTests(TestCase):
    """hbtd stops in order."""

    timeout = 120

    async def test_interrupt(self) -> None:
        """SIGINT stops it with status 0."""
        process = spawn(self, ["-m", "hbtd", *MEMORY])
        await process.url
        process.signal(signal.SIGINT)
        self.assertEqual(await process.ended, 0)

    async def test_flush(self) -> None:
        """On SIGTERM, waiting judgements are sent to HSM before hbtd exits."""
        running = start_hsm(self)
        running.hsm.behaviour.ready = False
        process = spawn(
            self, ["-m", "hbtd", "--kv_url=mem:", "--port=0", f"--sm_url={running.url}"]
        )
        url = await process.url
        client = WebClient(self)
        await client.request("POST", f"{url}/hmi/v1/heartbeat", heartbeat())
        await until(lambda: "hbtd keeps them" in process.said)
        process.signal(signal.SIGTERM)
        await until(lambda: "Waiting up to 10 s" in process.said)
        running.hsm.behaviour.ready = True
        self.assertEqual(await process.ended, 0)
        self.assertEqual(running.hsm.components[NODE].state, "Ready")

    async def test_impatience(self) -> None:
        """A second SIGTERM kills it at once."""
        process = spawn(
            self, ["-m", "hbtd", "--kv_url=mem:", "--port=0", "--sm_url=http://127.0.0.1:1/"]
        )
        url = await process.url
        await WebClient(self).request("POST", f"{url}/hmi/v1/heartbeat", heartbeat())
        process.signal(signal.SIGTERM)
        await until(lambda: "Waiting up to 10 s" in process.said)
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.ended, -signal.SIGTERM)


class RefusalTests(TestCase):
    """A reason not to start is one line, and an exit status."""

    timeout = 120

    async def refused(self, *arguments: object, status: int = 75) -> str:
        """Start hbtd, which fails, and return what it logged above the level of information."""
        ended, said = await deferToThread(run_prepared, [*MEMORY, *arguments], {})
        self.assertEqual(ended, status, said)
        lines = [line for line in said.splitlines() if " info " not in line]
        self.assertEqual(len(lines), 1, said)
        return lines[0]

    async def test_bad_option(self) -> None:
        """An invalid value is reported with the option, the value and what is allowed; status 2."""
        said = await self.refused("--warntime=soon", status=2)
        self.assertIn("--warntime='soon' can't be used: it must be a whole number", said)

    async def test_port_taken(self) -> None:
        """A port in use is named; it may become free."""
        running = start_hsm(self)
        port = running.port.getHost().port
        for option, where in ((), "all addresses"), (("--address=127.0.0.1",), "127.0.0.1"):
            said = await self.refused(f"--port={port}", *option)
            self.assertIn(f"can't listen: port {port} of {where}: Address already in use", said)
        self.assertIn(f"; `ss -ltnp sport = :{port}` shows by whom", said)

    async def test_addresses(self) -> None:
        """An address that this host does not have may come; one that can't be written may not."""
        said = await self.refused("--address=203.0.113.5")
        self.assertIn("Cannot assign requested address", said)
        path = Path(self.mktemp()).resolve() / "socket"
        said = await self.refused(f"--listen=unix:{path}")
        self.assertIn(f"can't listen: {path}.lock: No such file or directory", said)
        long = f"{short_folder(self)}/{'x' * 200}"
        said = await self.refused(f"--listen=unix:{long}", status=2)
        reason = f"a path of {len(long)} bytes is too long for a Unix socket: name one of 107"
        self.assertIn(f"can't listen: unix:{long}: {reason} at most", said)
        said = await self.refused("--listen=systemd:domain=INET:index=0")
        self.assertIn("systemd has passed no such socket", said)

    async def test_certificate_missing(self) -> None:
        """A certificate that can't be read is named."""
        said = await self.refused("--tls_cert=/nowhere/cert.pem", "--tls_key=/nowhere/key.pem")
        self.assertIn("/nowhere/cert.pem can't be read: No such file or directory", said)

    async def test_certificate_mismatched(self) -> None:
        """A key that belongs to another certificate is named."""
        folder = Path(self.mktemp()).resolve()
        cert, _ = write_identity(make_identity("localhost"), folder / "one")
        _, key = write_identity(make_identity("localhost"), folder / "other")
        said = await self.refused(f"--tls_cert={cert}", f"--tls_key={key}")
        self.assertIn(f"{key} is not the key of the certificate in {cert}", said)

    async def test_clock_at_boot(self) -> None:
        """If the clock is decades back, no certificate is valid yet; that passes, too."""
        identity = make_identity("localhost", begins=50 * 365, days=51 * 365)
        cert, key = write_identity(identity, Path(self.mktemp()).resolve())
        said = await self.refused(f"--tls_cert={cert}", f"--tls_key={key}")
        self.assertIn(f"the certificate in {cert} is not valid before ", said)
        self.assertRegex(said, r"; this host's clock says \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")

    async def test_access_files(self) -> None:
        """Missing or invalid files of tokens and keys are named."""
        empty = Path(self.mktemp()).resolve()
        empty.write_bytes(b"")
        for option, path, why in (
            ("operator_access=token", "/nowhere/tokens", "can't be read: No such file"),
            ("operator_access=token", empty, "holds no token"),
            ("node_access=jwt", "/nowhere/jwks.json", "can't be read: No such file"),
            ("node_access=jwt", empty, "can't be used: it is not JSON"),
        ):
            said = await self.refused(f"--{option}:{path}")
            self.assertIn(f"--{option.partition('=')[0]}: {path} {why}", said)

    async def test_authorities(self) -> None:
        """Missing bundles of authorities are named, with their options."""
        jwt = "--node_access=jwt:https://spire.example/keys"
        for option, *others in (
            ("sm_ca",),
            ("kv_ca", "--kv_url=https://localhost:1"),
            ("tls_client_ca",),
            ("jwt_ca", jwt),
        ):
            said = await self.refused(f"--{option}=/nowhere/ca.pem", *others)
            self.assertIn(f"--{option}", said)
            self.assertIn("/nowhere/ca.pem can't be read: No such file or directory", said)

    async def test_access_impossible(self) -> None:
        """An access rule that can't work is refused."""
        said = await self.refused("--node_access=cert", "--tls=no", status=2)
        self.assertIn("--node_access='cert' can't be used without --tls_client_ca", said)

    async def test_endpoint_unknown(self) -> None:
        """An endpoint that Twisted doesn't know is refused."""
        said = await self.refused("--listen=carrier-pigeon:7", status=2)
        self.assertIn("carrier-pigeon", said)


class PassingTests(TestCase):
    """What keeps hbtd from starting passes, and an hbtd that is started again serves."""

    timeout = 240

    async def test_certificate_comes(self) -> None:
        """A certificate that is missing, then not valid yet, is served once it is valid."""
        folder = Path(self.mktemp()).resolve()
        options = (f"--tls_cert={folder}/cert.pem", f"--tls_key={folder}/key.pem")
        reasons = []
        # As systemd does it.
        while True:
            process = spawn(self, ["-m", "hbtd", *MEMORY, *options])
            try:
                url = await process.url
            except AssertionError:
                self.assertEqual(await process.ended, 75, process.said)
                reasons.append("missing" if "can't be read" in process.said else "not yet")
                # An hour ahead; then so little that it is soon over, however busy the machine is.
                ahead = 3600 if len(reasons) == 1 else 2
                if len(reasons) <= 2:
                    identity = make_identity("localhost", begins=ahead / 86400)
                    write_identity(identity, folder)
                await _seconds(1)
            else:
                break
        self.assertEqual(reasons[:2], ["missing", "not yet"])
        self.assertGreaterEqual(time.time(), identity.chain[0].not_valid_before_utc.timestamp())
        status, _ = await WebClient(self).request("POST", f"{url}/hmi/v1/heartbeat", heartbeat())
        self.assertEqual(status, 200)

    async def test_old_root(self) -> None:
        """A chain that ends in an expired certificate of a root is served, with a warning."""
        identity, _ = old_root_chain()
        cert, key = write_identity(identity, Path(self.mktemp()).resolve())
        process = spawn(self, ["-m", "hbtd", *MEMORY, f"--tls_cert={cert}", f"--tls_key={key}"])
        await process.url
        (line,) = [each for each in process.said.splitlines() if "Certificate 3" in each]
        self.assertIn(" warn ", line)
        self.assertIn("in the chain of hbtd's certificate (CN=root) expired on ", line)


class FreezeTests(TestCase):
    """A stopped process doesn't take its own deafness for silence."""

    timeout = 120

    async def test_stopped_and_continued(self) -> None:
        """Stopped for longer than `errtime`, hbtd warns about none of the nodes that went on."""
        process = spawn(
            self, ["-m", "hbtd", *MEMORY, "--warntime=2", "--errtime=3", "--interval=1"]
        )
        url = await process.url
        names = node_names(100)
        fleet = Fleet(
            reactor, client_endpoint(reactor, url), url, names, random=Random(1), period=0.5
        )
        fleet.startService()
        self.addCleanup(fleet.stopService)
        started = re.compile("Heartbeat started: (?:[0-9]+ components: )?(.*)")

        def heard() -> set[str]:
            return {
                name
                for nodeset in started.findall(process.said)
                for name in expand(nodeset, len(names))
            }

        await until(lambda: heard() == set(names))
        process.signal(signal.SIGSTOP)
        await _seconds(4)
        process.signal(signal.SIGCONT)
        # Two sweeps, the first of which would judge all of them.
        await _seconds(2)
        self.assertNotIn("might be dead", process.said)
        self.assertNotIn("declared dead", process.said)
        fleet.kill(names[:1])
        await until(lambda: f"declared dead: {names[0]}\n" in process.said)
        self.assertEqual(process.said.count("might be dead"), 1)
        self.assertEqual(process.said.count("declared dead"), 1)


def _modules(folder: Path) -> set[Path]:
    """Return the modules of hbtd below a folder."""
    return {path.relative_to(folder) for path in (folder / "hbtd").rglob("*.py")}


def _twistd(*arguments: str) -> list[str]:
    """Return the arguments of Python that run twistd in the foreground."""
    return [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", *arguments]


def _seconds(number: float) -> Deferred[None]:
    """Let real time pass."""
    return deferLater(reactor, number)


class VersionTests(TestCase):
    """The command without a service."""

    async def test_version(self) -> None:
        """`--version` prints the version."""
        out, _, status = await getProcessOutputAndValue(
            sys.executable, ["-m", "hbtd", "--version"], path=str(CHECKOUT), env=None
        )
        self.assertEqual((out.decode(), status), (f"hbtd {__version__}\n", 0))
