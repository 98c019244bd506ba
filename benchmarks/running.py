"""Processes under measurement."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from time import monotonic, sleep

_CORES = sorted(os.sched_getaffinity(0))

SERVER_CORE = _CORES[0]
"""The core of what is measured."""

LOAD_CORE = _CORES[-1]
"""The core of whatever makes load; another one, where there are two."""


def on_core(core: int, command: Sequence[str]) -> list[str]:
    """Pin a command to a core."""
    return ["taskset", "--cpu-list", str(core), *command]


@contextmanager
def hbtd(*options: str) -> Iterator[str]:
    """Run hbtd with the memory store on the server core; gives its URL."""
    command = [sys.executable, "-m", "hbtd", "--kv_url=mem:", "--use_telemetry=no", *options]
    with _serving(on_core(SERVER_CORE, command), r"serves (\S+)") as url:
        yield url.replace("//[::]", "//localhost")


@contextmanager
def fake_hsm(*options: str) -> Iterator[str]:
    """Run the fake HSM on the load core; gives its base URL."""
    command = [sys.executable, "-m", "hbtd.simulator", "hsm", "--port=0", *options]
    with _serving(on_core(LOAD_CORE, command), r"listening on (\S+)") as url:
        yield url


@contextmanager
def _serving(command: Sequence[str], announcement: str) -> Iterator[str]:
    """Run a server until the block ends; gives where it says that it serves."""
    with (
        TemporaryFile() as said,
        subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as process,
    ):
        try:
            deadline = monotonic() + 20
            while True:
                # By position, so that what the process writes is not disturbed.
                text = os.pread(said.fileno(), 65536, 0).decode("utf-8", "replace")
                found = re.search(announcement + r"\s", text)
                if found:
                    break
                if process.poll() is not None or monotonic() > deadline:
                    raise RuntimeError(f"{command} does not serve: {text}")
                sleep(0.02)
            yield found[1]
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
