"""The container image, made without a container engine out of its Dockerfile, and containers of it.

Each instruction of the Dockerfile is carried out in a Debian root, as far as it changes files; what
it says about running them is kept. `make container-root` makes the root, with the Debian and the
Python that the image has. It takes root on Linux.
"""

import atexit
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support import systemd_root
from tests.support.processes import CHECKOUT
from tests.support.programs import run_program

ROOT = Path(sys.prefix) / "container-root"
"""The Debian root, which is never written to."""

_NETWORK = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/apt/apt.conf.d"),
    "/etc/ssl/certs/ca-certificates.crt",
)
"""What this host needs to reach its sources of packages, if it is there."""

# As in the base image, Python and pip are in /usr/local, and `python` is a name of it.
_BASE = "python3 -m venv /usr/local"

# The files of a stage are what overlayfs has in "upper". The script to run follows the arguments.
_STAGE = """
root=$1/root; mkdir -p "$root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$root"
mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"
shift 2; exec "$@"
"""

_CONTAINER = """
where=$1; layers=$2; shift 2
mount -t tmpfs tmpfs "$where"; mkdir "$where/root"
root=$where/root
# Without an upper layer an overlay can't be written to; what is mounted over it is the runtime's.
mount -t overlay -o "lowerdir=$layers" overlay "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
for each in null zero full random urandom; do
    : > "$root/dev/$each"; mount --bind "/dev/$each" "$root/dev/$each"
done
ip link set lo up
cd "$root"; pivot_root . .; umount -l .; cd /
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all \\
    --inh-caps=-all -- "$@"
"""


def why_not() -> str | None:
    """Return why a test can't make the image, `None` if it can be tried."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "To make the image without a container engine takes root on Linux."
    if not (ROOT / "usr" / "bin" / "python3").exists():
        return "There is no Debian root: make container-root (it takes mmdebstrap)."
    missing = [
        each
        for each in ("unshare", "nsenter", "setpriv", "ip", "pivot_root")
        if not shutil.which(each)
    ]
    return f"To run a container takes {', '.join(missing)}." if missing else None


@dataclass
class Stage:
    """A stage of the Dockerfile, carried out."""

    folder: Path
    """Where `upper` is, with what differs from the base."""
    environ: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    says: dict[str, str] = field(default_factory=dict)
    """What follows `USER`, `ENTRYPOINT` and so on, by that word."""
    ran: list[str] = field(default_factory=list)
    """What `RUN` has run."""


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with what follows it, in one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    parts = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in parts]


@functools.cache
def image() -> Stage:
    """Return the last stage, made of this checkout once; skip the test if it can't be made."""
    return build((CHECKOUT / "Dockerfile").read_text())


def build(dockerfile: str) -> Stage:
    """Carry out a Dockerfile with the files of this checkout; return its last stage."""
    reason = why_not()
    if reason is not None:
        raise SkipTest(reason)
    top = Path(tempfile.mkdtemp(prefix="hbtd-image-"))
    # trial has no hook after the last of several modules.
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    stages: dict[str, Stage] = {}
    stage = Stage(top)
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            stage = stages[name] = Stage(top / name)
            for part in ("upper", "work", "root"):
                (stage.folder / part).mkdir(parents=True)
            _run(stage, _BASE)
        elif word == "ARG":
            key, _, value = rest.partition("=")
            stage.arguments[key] = value
        elif word == "ENV":
            for pair in shlex.split(rest):
                key, _, value = pair.partition("=")
                stage.environ[key] = value.replace(
                    "$PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/bin"
                )
        elif word == "WORKDIR":
            stage.workdir = rest
            (stage.folder / "upper" / rest.lstrip("/")).mkdir(parents=True)
        elif word == "COPY":
            _copy(stage, stages, rest)
        elif word == "RUN":
            _run(stage, rest)
            stage.ran.append(rest)
        else:
            stage.says[word] = rest
    return stage


def layers(stage: Stage) -> str:
    """Return the folders of a stage's files as overlayfs wants them, the last one first."""
    return f"{stage.folder / 'upper'}:{ROOT}"


def _copy(stage: Stage, stages: Mapping[str, Stage], rest: str) -> None:
    *sources, target = rest.split()
    origin = CHECKOUT
    if sources[0].startswith("--from="):
        origin = stages[sources.pop(0).partition("=")[2]].folder / "upper"
    base = stage.folder / "upper" / stage.workdir.lstrip("/")
    for source in sources:
        found = origin / source.lstrip("/")
        into = stage.folder / "upper" / target.lstrip("/") if target[0] == "/" else base / target
        if found.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.py[cod]", "dropin.cache")
            built = origin is not CHECKOUT
            shutil.copytree(found, into, symlinks=True, ignore=None if built else ignored)
        else:
            shutil.copy2(found, into)


def _run(stage: Stage, command: str) -> None:
    """Run a command in a stage, as root, with the network of this host."""
    script = _STAGE
    for path in map(Path, _NETWORK):
        if path.exists():
            made = "mkdir -p" if path.is_dir() else "touch"
            bind = f'{made} "$root{path}"; mount --bind {path} "$root{path}"'
            script = script.replace("shift 2;", f'mkdir -p "$root{path.parent}"; {bind}\nshift 2;')
    environ = {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        **{name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "UV_"))},
        **{name: os.environ[name] for name in os.environ if name.endswith("_proxy")},
        **stage.arguments,
        **stage.environ,
    }
    inside = ["sh", "-c", f"cd {stage.workdir} && {command}"]
    status, said = run_program(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"),
            *(str(stage.folder), str(ROOT), "chroot", str(stage.folder / "root"), *inside),
        ],
        environ=environ,
        within=300,
    )
    if status:
        raise AssertionError(f"{command} ended with {status}:\n{said}")


class Container:
    """A running container of the image: its processes, in namespaces of their own."""

    def __init__(
        self, test: SynchronousTestCase, *arguments: str, entrypoint: str = "", **environ: str
    ) -> None:
        """Run the image's entry point, or another one, with arguments until the test ends."""
        stage = image()
        self._where = Path(tempfile.mkdtemp(prefix="hbtd-container-"))
        test.addCleanup(shutil.rmtree, self._where, ignore_errors=True)
        self.environ = {**stage.environ, **environ}
        command: Sequence[str] = json.loads(entrypoint or stage.says["ENTRYPOINT"])
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # closed by kill()
        self.process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"),
                *("--ipc", "--uts", "--net", "--kill-child", "--propagation", "private"),
                *("sh", "-euc", _CONTAINER, "sh", str(self._where), layers(stage)),
                *(*command, *arguments),
            ],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        test.addCleanup(self.kill)

    @property
    def said(self) -> str:
        """What its processes have printed."""
        return os.pread(self._output.fileno(), 10_000_000, 0).decode("utf-8", "replace")

    @property
    def pid(self) -> int:
        """Its first process, by its number on this host; 0 if it has ended."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        try:
            return int(Path(path).read_text().split()[0])
        except (OSError, IndexError):
            return 0

    def until(self, pattern: str, within: float = 60) -> None:
        """Wait until it has printed what matches a pattern; fail after some seconds."""
        for _ in systemd_root.attempts(within):
            if re.search(pattern, self.said):
                return
            if self.process.poll() is not None:
                break
        raise AssertionError(f"{pattern!r} is not in: {self.said}")

    def execute(self, *command: str, within: float = 60) -> tuple[int, str]:
        """Run a command in it as its user; return its exit status and what it has printed."""
        status, said = run_program(
            [
                *("nsenter", "-t", str(self.pid), "-m", "-p", "-i", "-u", "-n", "-r", "-w"),
                *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
                *("--no-new-privs", *command),
            ],
            environ=self.environ,
            within=within,
        )
        return status, said.strip()

    def signal(self, number: int) -> None:
        """Send its first process a signal, as `docker kill` and `docker stop` do."""
        os.kill(self.pid, number)

    def wait(self, within: float = 60) -> int:
        """Wait until it has ended; return its exit status."""
        return self.process.wait(within)

    def kill(self) -> None:
        """End all its processes."""
        if self.process.poll() is None:
            # The first process of its namespace, and so all of them: that unshare ends would not
            # end it, since it has changed its user.
            if pid := self.pid:
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
        self.process.wait()
        self._output.close()
