"""Take the pictures of hbtd's page for the README, in a headless Chromium.

    python docs/screenshots.py docs/images

`make screenshots` does that. A fleet runs on this host for half a minute, and a chassis of it dies.
"""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_NODES: Final = 2048
_ERRTIME: Final = 6
_DEAD: Final = "x1002c5,x1000c2s3b0n1,x1001c6s[2-3]"

_HBTD: Final = (
    *("-m", "hbtd", "--kv_url=mem:", "--nosm", "--use_telemetry=no", "--port=0", "--tls=no"),
    *("--address=127.0.0.1", "--warntime=3", f"--errtime={_ERRTIME}", "--interval=1"),
)


@contextmanager
def _process(pattern: str, *arguments: str) -> Iterator[str]:
    """Run Python; return a context manager with what the pattern finds first in its output."""
    with subprocess.Popen(  # noqa: S603  # the command lines are those below
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield next(found[1] for line in process.stdout if (found := re.search(pattern, line)))
        finally:
            process.terminate()


def main(folder: Path) -> None:
    """Write `page-light.png`, `page-dark.png` and `page-wallboard.png` into a folder."""
    from tests.support.browser import Browser

    def control(url: str, command: str, nodes: str) -> None:
        urllib.request.urlopen(  # noqa: S310  # the fleet on this host
            f"{url}/{command}", nodes.encode(), timeout=10
        ).close()

    fleet: tuple[Any, ...] = (
        *("-m", "hbtd.simulator", "fleet", f"--nodes={_NODES}", "--period=1", "--control_port=0"),
    )
    with (
        _process(r" serves (http://\S+)", *_HBTD) as url,
        _process(r"commands to the fleet: (\S+)", *fleet, f"--url={url}") as commands,
    ):
        time.sleep(4)
        control(commands, "kill", "x1003c1s4")
        time.sleep(_ERRTIME + 3)
        control(commands, "revive", "x1003c1s4")
        control(commands, "kill", _DEAD)
        time.sleep(_ERRTIME + 4)
        control(commands, "freeze", "x1001c0s5b1n[0-1]")
        time.sleep(4)
        for name, dark, path, (width, height) in (
            ("page-light", False, "/", (1440, 900)),
            ("page-dark", True, "/", (1440, 900)),
            ("page-wallboard", True, "/ui/?wallboard", (1920, 1080)),
        ):
            browser = Browser(width, height, dark=dark)
            try:
                browser.open(url + path)
                browser.until_live()
                browser.until(lambda browser=browser: browser.counts()[2] > 64, "the dead")
                if path == "/":
                    browser.run(
                        "const span = document.getElementById('span'); span.value = '300';"
                        "span.dispatchEvent(new Event('change'))"
                    )
                    browser.click_on("x1002c5s0b0n0")
                    browser.until(lambda b=browser: "Dead:" in b.text("#why"), "why")
                browser.until(lambda b=browser: "x1002c5" in b.text("#silent"), "the chassis")
                browser.until(lambda b=browser: "died" in b.text("#changes"), "the changes")
                browser.until(lambda b=browser: b.text("#clock"), "the clock")
                browser.picture(folder / f"{name}.png")
            finally:
                browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
