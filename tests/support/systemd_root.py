"""A Debian system with a real systemd as its first process, in namespaces of its own.

`make systemd-root` makes the Debian root in .venv. Each `SystemdRoot` boots what looks like a copy
of it: when the test ends, all that was written there is gone, and so are its processes. Several may
run at the same time. It takes root on Linux.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.programs import run_program

DEBIAN = Path(sys.prefix) / "systemd-root"
"""The Debian root, which is never written to."""

_TOOLS = ("unshare", "nsenter", "setpriv", "mount", "ip", "pivot_root", "hostname")

_INSIDE = ("-m", "-p", "-i", "-u", "-C", "-n", "-r", "-w", "--")
_ASIDE = ("unshare", "--mount", "--propagation", "private", "sh")

# A cgroup of its own, so that two systems, and this host, do not share theirs.
_CGROUP = """
mkdir "$1/cgroup" && mount -t cgroup2 cgroup2 "$1/cgroup"
mkdir "$1/cgroup/$2" && echo $$ > "$1/cgroup/$2/cgroup.procs"
umount -l "$1/cgroup"
exec unshare --net --mount --pid --fork --ipc --uts --cgroup --propagation private --kill-child \\
    sh -euc "$3" sh "$@"
"""

_BOOT = """
where=$1; debian=$4; shift 4
mount -t tmpfs tmpfs "$where"; mkdir "$where/upper" "$where/work" "$where/root"
root=$where/root
mount -t overlay -o "lowerdir=$debian,upperdir=$where/upper,workdir=$where/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for each in null zero full random urandom tty; do
    : > "$root/dev/$each"; mount --bind "/dev/$each" "$root/dev/$each"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
while [ $# -gt 0 ]; do
    mkdir -p "$root$2"; mount --bind "$1" "$root$2"; mount -o remount,bind,ro "$root$2"; shift 2
done
hostname hbtd-test; echo hbtd-test > "$root/etc/hostname"
ip link set lo up
cd "$root"; mkdir old-root; pivot_root . old-root; umount -l /old-root; rmdir /old-root
mount --make-rshared /
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --system --log-target=journal
"""


def why_not() -> str | None:
    """Return why a test can't boot a system, `None` if it can be tried."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "To boot systemd takes root on Linux."
    missing = [each for each in _TOOLS if shutil.which(each) is None]
    if missing:
        return f"To boot systemd takes {', '.join(missing)}."
    if not (DEBIAN / "lib" / "systemd" / "systemd").exists():
        return "There is no Debian root: make systemd-root (it takes mmdebstrap)."
    return None


class SystemdRoot:
    """A running Debian system."""

    def __init__(self, test: SynchronousTestCase, binds: Mapping[Path, str] | None = None) -> None:
        """Boot it until the test ends; skip the test if this host does not allow that.

        `binds` are folders of this host that can be read there, by their paths there.
        """
        reason = why_not()
        if reason is not None:
            raise SkipTest(reason)
        # Not in the folder of the test: its path may hold what overlayfs takes for a separator.
        self._where = Path(tempfile.mkdtemp(prefix="hbtd-systemd-"))
        test.addCleanup(shutil.rmtree, self._where, ignore_errors=True)
        self._cgroup = self._where.name
        pairs = [part for source, target in (binds or {}).items() for part in (str(source), target)]
        arguments = [str(self._where), self._cgroup, _BOOT, str(DEBIAN), *pairs]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed by kill()
        self._process = subprocess.Popen(
            # Whatever happens to the test, the system does not outlive it.
            ["setpriv", "--pdeathsig", "KILL", *_ASIDE, "-euc", _CGROUP, "sh", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        test.addCleanup(self.kill)
        self.pid = self._first_process()
        """The first process of the system, by its number on this host."""
        self.path = Path(f"/proc/{self.pid}/root")
        """The root of its files, seen from here; absolute links in it lead into this host."""
        self._wait_until_booted()

    def run(self, *command: str, check: bool = True, given: str = "", within: float = 60) -> str:
        """Run a command in the system as root; return what it has printed on both streams.

        Unless `check` is false, fail if its exit status is not 0. `given` is its input.
        """
        done = self.status(*command, given=given, within=within)
        if check and done[0] != 0:
            log = self.status("journalctl", "--no-pager", "-n", "40")[1]
            raise AssertionError(f"{' '.join(command)} ended with {done[0]}: {done[1]}\n{log}")
        return done[1]

    def status(self, *command: str, given: str = "", within: float = 60) -> tuple[int, str]:
        """Run a command as `run` does; return its exit status and what it has printed."""
        status, said = run_program(
            ["nsenter", "-t", str(self.pid), *_INSIDE, *command],
            environ={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"},
            given=given,
            within=within,
        )
        return status, said.strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the system, which belongs to root, and make its folders if need be."""
        inside = self.path / path.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text)
        inside.chmod(mode)

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file or folder of this host into the system, and make its folders if need be."""
        inside = self.path / target.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, inside, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy(source, inside)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit)

    def journal(self, unit: str) -> str:
        """Return the log of a unit, of its processes and what systemd says of it."""
        return self.run("journalctl", "--no-pager", "-o", "short-monotonic", "-u", unit)

    def until(self, true: Callable[[], object], within: float = 30, unit: str = "") -> None:
        """Ask a function until its result is true; fail with the log of a unit after a while."""
        for _ in attempts(within):
            if true():
                return
        about = f": {self.journal(unit)}" if unit else ""
        raise AssertionError(f"Not within {within:g} s{about}")

    def kill(self) -> None:
        """End all processes of the system, and forget what was written there."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._said.closed:
            return
        self._said.close()
        # The processes have to be gone before their cgroups can go.
        script = (
            'mount -t cgroup2 cgroup2 "$1" && cd "$1/$2" && for i in $(seq 50); do'
            " find . -depth -mindepth 1 -type d -exec rmdir {} + 2>/dev/null;"
            ' rmdir "$1/$2" 2>/dev/null && exit; sleep 0.1; done'
        )
        where = self._where / "cgroup"
        subprocess.run(
            [*_ASIDE, "-c", script, "sh", str(where), self._cgroup],
            check=False,
            capture_output=True,
        )

    def _first_process(self) -> int:
        """Wait until systemd has been executed, and return its process."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for _ in attempts(20):
            try:
                for pid in children.read_text().split():
                    if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                        return int(pid)
            except OSError:  # one of them has ended
                pass
            if self._process.poll() is not None:
                break
        raise SkipTest(f"This host does not boot systemd: {self._output()}")

    def _wait_until_booted(self) -> None:
        state = ""
        for _ in attempts(40):
            state = self.run("systemctl", "is-system-running", check=False)
            if state in ("running", "degraded"):
                return
        raise AssertionError(f"systemd does not come up: {state}; {self._output()}")

    def _output(self) -> str:
        self._said.seek(0)
        return self._said.read().decode("utf-8", "replace").strip() or "it said nothing"


def attempts(seconds: float) -> Iterator[None]:
    """Return an iterator over attempts, ten a second, that ends after some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)
