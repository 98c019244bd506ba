"""`hbtd --check` as a process: it says what the start would say, and changes nothing."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from hbtd.store.sqlite_file import APPLICATION
from tests.support.certificates import (
    make_identity,
    revocation_list,
    write_identity,
    write_lists,
)
from tests.support.prepared import run_prepared
from tests.support.processes import CHECKOUT, spawn
from tests.support.running import WebClient, heartbeat, start_hsm
from tests.support.server_process import free_ports
from tests.support.short_paths import short_folder
from tests.support.tmpfs import fill, small_filesystem

NOBODY = 65534
PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"
"""A Python that all users may run; that of the tests may be in somebody's home."""
QUIET = ("--nosm", "--use_telemetry=no")
FREE = (*QUIET, "--port=0", "--kv_url=mem:")


class Outcome(NamedTuple):
    """What a process has said, and its exit status."""

    status: int
    lines: list[str]

    @property
    def errors(self) -> list[str]:
        """The lines about what keeps hbtd from starting."""
        return [line for line in self.lines if line.startswith("error: ")]


def run(
    *arguments: object,
    environ: Mapping[str, str] | None = None,
    user: int | None = None,
) -> Outcome:
    """Run hbtd, which has to end by itself."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{CHECKOUT}:{sysconfig.get_path('purelib')}",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_")},
        **(environ or {}),
    }
    if user is None:
        status, said = run_prepared(arguments, environment)
        return Outcome(status, said.splitlines())
    done = subprocess.run(
        [PYTHON, "-m", "hbtd", *map(str, arguments)],
        cwd="/",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        user=user,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.splitlines())


class AgreementTests(SynchronousTestCase):
    """The exit status of a check is that of the start which it stands for."""

    def setUp(self) -> None:
        """Make a directory for files."""
        self.folder = short_folder(self)

    def agrees(
        self,
        status: int,
        *arguments: object,
        says: Sequence[str] = (),
        user: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Check and start hbtd, and compare; return the check's errors, one for each of `says`."""
        checked = run("--check", *arguments, user=user, environ=environ)
        started = run(*arguments, user=user, environ=environ)
        self.assertEqual((checked.status, started.status), (status, status), (checked, started))
        self.assertEqual(len(checked.errors), len(says), checked)
        for error, words in zip(checked.errors, says, strict=True):
            self.assertIn(words, error)
        self.assertIn(f"It would exit with status {status}.", checked.lines[-1])
        return checked.errors

    def test_options(self) -> None:
        """All wrong options are named, not only the first: 2."""
        self.agrees(
            2,
            *("--bogus=1", "--warntime=x", "--tls_cert=/a", "word", "--tls=no"),
            environ={"HBTD_PORT": "66000"},
            says=(
                "there is no option --bogus",
                "'word' is not an option",
                "--warntime='x' can't be used",
                "HBTD_PORT='66000' can't be used",
                "--tls_cert and --tls_key must be given together",
                "--tls=no excludes --tls_cert",
            ),
        )
        self.agrees(2, *FREE, "--errtime", says=["--errtime needs a value"])
        self.agrees(2, *QUIET, "--kv_url=", says=["--kv_url is empty, and ETCD_HOST"])

    def test_certificate_without_key(self) -> None:
        """A certificate whose key is not there, or is another's, can come right: 75."""
        cert, _ = write_identity(make_identity("localhost"), self.folder / "one")
        _, other = write_identity(make_identity("localhost"), self.folder / "other")
        nowhere = self.folder / "key.pem"
        self.agrees(
            75,
            *(*FREE, f"--tls_cert={cert}", f"--tls_key={nowhere}"),
            says=[f"--tls_key: {nowhere} can't be read: No such file"],
        )
        self.agrees(
            75,
            *(*FREE, f"--tls_cert={cert}", f"--tls_key={other}"),
            says=[f"{other} is not the key of the certificate in {cert}"],
        )
        self.agrees(2, *FREE, f"--tls_cert={cert}", says=["must be given together"])

    def test_files_not_there_yet(self) -> None:
        """Each file that is missing or can't be used is named: 75."""
        wrong = self.folder / "wrong"
        wrong.write_text("nothing of use")
        self.agrees(
            75,
            *(*QUIET, "--port=0", "--kv_url=https://127.0.0.1:1", "--tls_cert=/a", "--tls_key=/b"),
            *("--kv_cert=/c", "--kv_key=/d", f"--tls_client_ca={wrong}", "--sm_ca=/e"),
            *("--sm_cert=/h", "--sm_key=/i", f"--sm_token={wrong}", "--kv_login=/l"),
            *("--telemetry_tls=yes", "--telemetry_cert=/m", "--telemetry_key=/n"),
            *("--telemetry_login=/o", "--telemetry_ca=/p"),
            *("--kv_ca=/f", "--operator_access=token:/g", f"--node_access=jwt:{wrong}"),
            says=[
                *("--tls_cert: /a can't be read", "--tls_key: /b can't be read"),
                *("--kv_cert: /c can't be read", "--kv_key: /d can't be read"),
                *("--sm_cert: /h can't be read", "--sm_key: /i can't be read"),
                f"--sm_token: {wrong} holds no bearer token",
                "--kv_login: /l can't be read",
                *("--telemetry_cert: /m can't be read", "--telemetry_key: /n can't be read"),
                "--telemetry_login: /o can't be read",
                f"--tls_client_ca: {wrong} holds no usable PEM certificates",
                *("--sm_ca: /e can't be read", "--kv_ca: /f can't be read"),
                "--telemetry_ca: /p can't be read",
                "--operator_access: /g can't be read",
                f"--node_access: {wrong} can't be used: it is not JSON",
            ],
        )

    def test_no_ordinary_files(self) -> None:
        """A pipe, which nobody may ever write to, or a device instead of a file is named: 75."""
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        cert, key = write_identity(make_identity("localhost"), self.folder / "one")
        for path in (pipe, "/dev/zero"):
            self.agrees(
                75,
                *(*QUIET, "--port=0", "--kv_url=https://127.0.0.1:1", f"--tls_cert={cert}"),
                *(f"--tls_key={path}", f"--kv_cert={path}", f"--kv_key={key}"),
                *(f"--tls_client_ca={path}", f"--sm_ca={path}", f"--kv_ca={path}"),
                *(f"--operator_access=token:{path}", f"--node_access=jwt:{path}"),
                says=[
                    f"--{option}: {path} can't be read: it is no ordinary file"
                    for option in (
                        *("tls_key", "kv_cert", "tls_client_ca", "sm_ca", "kv_ca"),
                        *("operator_access", "node_access"),
                    )
                ],
            )

    def test_revocation_lists(self) -> None:
        """A revocation list that is missing, damaged, or of another authority is named: 75."""
        authority, other = make_identity("authority"), make_identity("other")
        ca, _ = write_identity(authority, self.folder / "ca")
        lists = self.folder / "crl.pem"
        options = (*FREE, f"--tls_client_ca={ca}", f"--tls_client_crl={lists}")
        self.agrees(75, *options, says=[f"--tls_client_crl: {lists} can't be read: No such file"])
        lists.write_bytes(ca.read_bytes())
        self.agrees(75, *options, says=[f"--tls_client_crl: {lists} holds no PEM revocation"])
        write_lists(lists, revocation_list(other))
        self.agrees(
            75, *options, says=[f"{lists} holds no revocation list that CN=authority has issued"]
        )
        write_lists(lists, revocation_list(authority, other, days=-1))
        checked = run("--check", *options)
        self.assertEqual(checked.status, 0, checked)
        said = "\n".join(checked.lines)
        self.assertIn(f"--tls_client_crl: {lists}, 1 certificate revoked", said)
        self.assertIn("list of CN=authority in --tls_client_crl expired on", said)

    def test_clock(self) -> None:
        """A certificate that has expired, or is not valid yet: 75."""
        for begins, days, words in ((-3, -1, "expired on"), (1, 2, "is not valid before")):
            identity = make_identity("localhost", begins=begins, days=days)
            cert, key = write_identity(identity, self.folder / words[:2])
            options = (f"--tls_cert={cert}", f"--tls_key={key}")
            self.agrees(75, *FREE, *options, says=[words])

    def test_store(self) -> None:
        """A store's file of a newer hbtd, of another program, damaged, or without a directory."""

        def database(name: str, *pragmas: str) -> Path:
            path = self.folder / name
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("CREATE TABLE t (a)")
                for pragma in pragmas:
                    connection.execute(f"PRAGMA {pragma}")
            return path

        ours = f"application_id = {APPLICATION}"
        damaged = self.folder / "damaged"
        damaged.write_bytes(b"no database at all" * 100)
        for path, words in (
            (database("newer", ours, "user_version = 2"), "of a newer hbtd: version 2, not 1"),
            (database("foreign"), "a file of some other program"),
            (damaged, "this is not an SQLite file"),
            (self.folder, "unable to open a directory"),
            (self.folder / "gone" / "x", f"there is no directory {self.folder}/gone: create it"),
        ):
            self.agrees(75, *QUIET, "--port=0", f"--kv_url=sqlite:{path}", says=[words])

    def test_full_disk(self) -> None:
        """A full disk: 75; with little room left, a warning."""
        where = small_filesystem(self, 1024)  # type: ignore[arg-type]  # any test has addCleanup
        path = where / "hbtd.sqlite"
        checked = run("--check", *QUIET, "--port=0", f"--kv_url=sqlite:{path}")
        self.assertEqual(checked.status, 0, checked)
        self.assertIn(f"1 MiB are free on the disk of {path}", "".join(checked.lines))
        fill(where)
        self.agrees(75, *QUIET, "--port=0", f"--kv_url=sqlite:{path}", says=["the disk is full"])

    def test_ports(self) -> None:
        """Ports in use, addresses of others, and Unix sockets that can't be made."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for options in (
                (),
                ("--address=127.0.0.1",),
                (f"--listen=tcp:{port}:interface=127.0.0.1",),
            ):
                others = () if "--listen" in "".join(options) else (f"--port={port}",)
                says = [f"`ss -ltnp sport = :{port}` shows by whom"]
                self.agrees(75, *QUIET, "--kv_url=mem:", *others, *options, says=says)
        self.agrees(
            75,
            *(*FREE, "--address=198.51.100.1,198.51.100.2"),
            says=["port 0 of 198.51.100.1: Cannot assign", "port 0 of 198.51.100.2: Cannot assign"],
        )
        missing = self.folder / "gone" / "socket"
        self.agrees(75, *FREE, f"--listen=unix:{missing}", says=[f"{missing}.lock: No such file"])
        (self.folder / "file").touch()
        self.agrees(75, *FREE, f"--listen=unix:{self.folder}/file", says=["can't listen"])
        self.agrees(2, *FREE, "--listen=carrier-pigeon:7", says=["carrier-pigeon"])
        self.agrees(
            75, *FREE, "--listen=systemd:domain=INET:index=0", says=["has passed no such socket"]
        )

    def test_unix_paths(self) -> None:
        """Of several reasons against a Unix socket, the one that a start comes upon first."""
        (self.folder / "file").touch()
        long = "x" * 150
        for status, path, words in (
            (2, f"{self.folder}/{long}", f"unix:{self.folder}/{long}: a path of"),
            (2, f"{self.folder}/{long}{long}", "too long"),
            (2, f"{self.folder}/{long}{long}/x", "File name too long"),
            (75, f"{self.folder}/gone/{long}", f"there is no directory {self.folder}/gone"),
            (75, f"{self.folder}/file/{long}", "Not a directory"),
        ):
            self.agrees(status, *FREE, f"--listen=unix:{path}", says=[words])

    def test_owner_and_mode(self) -> None:
        """Files and directories of others, as an ordinary user sees them: 75."""
        if os.geteuid() or not os.path.exists(PYTHON) or run("--version", user=NOBODY).status:
            raise SkipTest("this takes root, and a Python that all users may run")
        home = Path("/tmp") / f"hbtd-check-{os.getpid()}"  # all users can reach it
        home.mkdir(mode=0o755)
        self.addCleanup(subprocess.run, ["rm", "-r", str(home)], check=True)
        cert, key = write_identity(make_identity("localhost"), home / "tls")
        os.chmod(home / "tls", 0o755)
        os.chmod(key, 0o600)
        path = home / "hbtd.sqlite"
        options = (*QUIET, "--port=0", f"--kv_url=sqlite:{path}")
        self.agrees(
            75,
            *(*options, f"--tls_cert={cert}", f"--tls_key={key}"),
            user=NOBODY,
            says=[
                f"--tls_key: {key} can't be read: Permission denied; user nobody may not",
                f"user nobody may not write to the directory {home}: change its owner or mode",
            ],
        )
        os.chmod(home, 0o777)
        path.touch(0o600)
        self.agrees(75, *options, user=NOBODY, says=["it is of user 0, -rw-------"])
        os.chown(path, NOBODY, NOBODY)
        self.assertEqual(run("--check", *options, user=NOBODY).status, 0)
        path.unlink()
        self.agrees(75, *QUIET, "--port=0", f"--kv_url=sqlite:{home}/tls/x", user=NOBODY,
                    says=["user nobody may not write to the directory"])  # fmt: skip
        self.agrees(75, *FREE, f"--listen=unix:{home}/tls/x", user=NOBODY, says=["Permission"])


class AloneTests(SynchronousTestCase):
    """What a check says beyond errors."""

    def test_fine(self) -> None:
        """With nothing wrong the status is 0, and the last line says so."""
        checked = run("--check", *FREE)
        self.assertEqual((checked.status, checked.errors), (0, []))
        self.assertRegex(checked.lines[-1], r"^hbtd could start(, with \d warnings?)?\.$")
        self.assertIn("ok: options: all can be used", checked.lines)

    def test_warnings(self) -> None:
        """What the start would log as a warning is one here: variables, modes, expiry, risks."""
        folder = Path(self.mktemp()).resolve()
        cert, key = write_identity(make_identity("localhost", days=5), folder)
        os.chmod(key, 0o644)
        tokens = folder / "tokens"
        tokens.write_text("alice:0123456789abcdef\n")
        os.chmod(tokens, 0o644)
        checked = run(
            *("--check", *FREE, f"--tls_cert={cert}", f"--tls_key={key}", "--sm_ca=insecure"),
            f"--operator_access=token:{tokens}",
            environ={"HBTD_WARNTIMES": "5"},
        )
        said = "\n".join(line for line in checked.lines if line.startswith("warning: "))
        self.assertEqual(checked.status, 0, checked)
        self.assertIn("HBTD_WARNTIMES: there is no such option", said)
        self.assertIn("risky: --sm_ca=insecure", said)
        self.assertIn(f"{key} is accessible to every user", said)
        self.assertIn(f"{tokens} contains secrets and is accessible to every user", said)
        self.assertIn("hbtd's certificate in --tls_cert expires on", said)

    def test_unreachable(self) -> None:
        """Neighbours that can't be reached are warnings: hbtd starts without them."""
        checked = run(
            *("--check", "--port=0", "--kv_url=http://127.0.0.1:1,http://127.0.0.2:1"),
            *("--sm_url=http://nowhere.invalid/hsm", "--telemetry_host=127.0.0.1:1:topic"),
            "--node_access=jwt:https://127.0.0.1:1/keys",
        )
        self.assertEqual(checked.status, 0, checked)
        for words in (
            *("--kv_url: http://127.0.0.1:1 ", "--kv_url: http://127.0.0.2:1 "),
            *("--sm_url: http://nowhere.invalid", "--telemetry_host: 127.0.0.1:1:topic: "),
            "--node_access: https://127.0.0.1:1/keys: ",
        ):
            (line,) = [line for line in checked.lines if words in line]
            self.assertTrue(line.startswith("warning: "), line)
            self.assertTrue(line.endswith("hbtd starts without it"), line)

    def test_terminated(self) -> None:
        """SIGTERM ends a check that waits for a neighbour; that does not look like success."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"--sm_url=http://127.0.0.1:{silent.getsockname()[1]}"
            command = [sys.executable, "-m", "hbtd", "--check", "--port=0", "--kv_url=mem:", url]
            with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE) as process:
                asked, _ = silent.accept()
                process.terminate()
                self.assertEqual(process.wait(10), -signal.SIGTERM)
                asked.close()

    def test_plugin(self) -> None:
        """As a plugin of twistd hbtd has no check: it refuses instead of starting."""
        done = subprocess.run(
            [Path(sys.executable).with_name("twistd"), "-n", "--pidfile=", "hbtd", "--check"],
            cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 1)
        self.assertIn("--check is an option of the command hbtd", done.stderr)


class RunningTests(TestCase):
    """A check beside an hbtd that runs, and beside its neighbours."""

    timeout = 240

    async def test_proxies(self) -> None:
        """Proxies in the environment are not used: HSM is asked itself."""
        hsm = start_hsm(self)
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        dead = dict.fromkeys(names, "http://127.0.0.1:1")
        checked = await deferToThread(
            run, *("--check", "--port=0", "--kv_url=mem:", f"--sm_url={hsm.url}"), environ=dead
        )
        self.assertEqual(checked.status, 0)
        self.assertIn(f"ok: --sm_url: {hsm.url} answers", checked.lines)
        self.assertEqual(hsm.hsm.updates, [])

    async def test_nothing_changed(self) -> None:
        """No file, port or socket is other than before, whatever is checked, and the hbtd lives."""
        folder = short_folder(self)
        cert, key = write_identity(make_identity("localhost"), folder)
        port, other = free_ports(2)
        path = folder / "hbtd.sqlite"
        options = (*QUIET, f"--kv_url=sqlite:{path}", f"--tls_cert={cert}", f"--tls_key={key}")

        async def check(*more: object, status: int = 0, words: str = "") -> None:
            before = _state(folder, port, other)
            checked = await deferToThread(run, "--check", *options, *more)
            self.assertEqual(checked.status, status, checked)
            self.assertIn(words, "\n".join(checked.lines))
            self.assertEqual(_state(folder, port, other), before)

        await check(f"--port={port}", words="hbtd.sqlite; it will be made")
        await check(f"--listen=unix:{folder}/socket", words=f"can listen: unix:{folder}/socket")
        process = spawn(self, ["-m", "hbtd", *options, f"--port={port}"])
        url = await process.url
        status, _ = await WebClient(self).request("POST", f"{url}/hmi/v1/heartbeat", heartbeat())
        self.assertEqual(status, 200)
        # A second instance: each of the two is in its way.
        pid = process.transport.pid  # type: ignore[union-attr]
        process.signal(signal.SIGSTOP)  # it writes its file, too
        await check(f"--port={port}", status=75, words=f"the file is locked by process {pid}")
        await check(f"--port={port}", status=75, words="Address already in use")
        await check(f"--port={other}", status=75, words="the file is locked")
        process.signal(signal.SIGCONT)
        status, _ = await WebClient(self).request("POST", f"{url}/hmi/v1/heartbeat", heartbeat())
        self.assertEqual(status, 200)
        process.signal(signal.SIGKILL)
        await process.ended
        self.assertTrue((folder / "hbtd.sqlite-wal").exists())
        await check(f"--port={port}", words="it was not closed, and is sound")
        again = spawn(self, ["-m", "hbtd", *options, f"--port={port}"])
        await again.url
        again.signal(signal.SIGTERM)
        self.assertEqual(await again.ended, 0)
        await check(f"--port={port}", words=f"in the file {path}\n")


def _state(folder: Path, *ports: int) -> object:
    """Return all that a check could change: files, their contents and times, and ports."""
    files = {
        str(path): (
            path.lstat().st_mtime_ns,
            path.lstat().st_ctime_ns,
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() and not path.name.endswith("-shm") else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }
    listening = {
        int(line.split()[1].rpartition(":")[2], 16)
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    return files, listening.intersection(ports)
