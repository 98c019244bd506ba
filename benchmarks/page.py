"""The page in a headless Chromium: how soon the map is there, and how smooth it stays.

hbtd has one core, as elsewhere; the browser and the load share the other.
"""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from benchmarks.components import beat
from benchmarks.http import PLAIN
from benchmarks.running import cpu_seconds, hbtd_process
from benchmarks.table import Row
from hbtd.simulator.fleet import node_names

_WARNTIME = 8
_PERIOD = 3.0
_PATIENCE = 60.0
_PAGES = 10

_PROBE = """
window.longest = 0;
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) window.longest = Math.max(window.longest, each.duration);
}).observe({ type: "longtask", buffered: true });
window.frames = 0;
(function count() { window.frames++; requestAnimationFrame(count); })();
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (...given) {
  if (this.canvas.id === "canvas") window.first ??= performance.now();
  return fillText.apply(this, given);
};
"""
"""Runs in the page before its own scripts: names are written when the map is drawn."""

_WARNED = "document.querySelectorAll('#counters b')[1].textContent.replace(/[^0-9]/g, '')"
_RECORD = f"""
window.longest = 0;
window.samples = [];
(function sample() {{
  window.samples.push([performance.now(), window.frames, Number({_WARNED})]);
  requestAnimationFrame(sample);
}})();
"""
"""Notes the time, the number of frames, and how many are warned about, with each frame."""


def missing() -> str:
    """Return what is needed to run a browser here, empty if it can be run."""
    found = all(map(shutil.which, ("chromium", "chromedriver")))
    return "" if found else "apt install chromium chromium-driver"


def measure(count: int, changes: int) -> list[Row]:
    """Open the page of `count` nodes, and let `changes` of them be warned about at once."""
    what = f"the page, {count:,} nodes: the map is drawn after"
    if missing():
        return [Row(what, "not measured", missing())]
    names = node_names(count)
    options = (*PLAIN, "--nosm", f"--warntime={_WARNTIME}", "--errtime=600", "--interval=1")
    with (
        hbtd_process(*options) as (url, pid),
        _beating(url, names) as quiet,
        _browser() as page,
    ):
        page.get(url)
        _until(page, "return window.first && document.querySelector('#status').textContent=='live'")
        first, longest = page.execute_script("return [window.first, window.longest]")
        rows = [
            Row(what, f"{first / 1e3:.2f} s", "1 s" if count <= 20_000 else "2 s"),
            Row("... longest task of the page", f"{longest:.0f} ms", "200 ms"),
        ]
        if changes:
            rows += [_cost(page, pid, url), _burst(page, quiet, changes)]
        return rows


def _cost(page: Chrome, pid: int, url: str) -> Row:
    """Open ten pages, compare hbtd's processor time with that of before, and close all but one."""
    one = _busy(pid)
    first = page.current_window_handle
    for _ in range(_PAGES):
        page.switch_to.new_window("tab")
        page.get(url)
        _until(page, "return document.querySelector('#status').textContent == 'live'")
    more = _busy(pid)
    for handle in page.window_handles:
        if handle != first:
            page.switch_to.window(handle)
            page.close()
    page.switch_to.window(first)
    return Row(
        f"... {_PAGES} more pages open take of hbtd's core",
        f"{max(more - one, 0.0):.1%}",
        "3 %",
    )


def _busy(pid: int) -> float:
    """Return the part of a core that a process takes, over some periods of the heartbeats."""
    sleep(1.0)  # what the pages ask for when they are opened is over
    used, began = cpu_seconds(pid), monotonic()
    sleep(4 * _PERIOD)
    return (cpu_seconds(pid) - used) / (monotonic() - began)


def _burst(page: Chrome, quiet: Event, changes: int) -> Row:
    """Let the first half of the nodes fall silent; return the frames while that is shown."""
    quiet.set()
    page.execute_script(_RECORD)
    _until(page, f"return Number({_WARNED}) >= {changes}")
    # From the last moment without any warning to the first with all of them.
    samples = page.execute_script("return window.samples")
    began = next(each for each, later in pairwise(samples) if later[2])
    ended = next(each for each in samples if each[2] >= changes)
    seconds = (ended[0] - began[0]) / 1e3
    longest = page.execute_script("return window.longest")
    return Row(
        f"... {changes:,} are warned about at once: frames until all are shown",
        f"{(ended[1] - began[1]) / max(seconds, 0.001):.0f}/s for {seconds:.1f} s,"
        f" longest task {longest:.0f} ms",
        "30/s",
    )


def _until(page: Chrome, script: str) -> None:
    """Wait until a script returns something true."""
    until = monotonic() + _PATIENCE
    while not page.execute_script(script):
        if monotonic() > until:
            raise AssertionError(f"not within {_PATIENCE} s: {script}")
        sleep(0.02)


@contextmanager
def _browser() -> Iterator[Chrome]:
    """Run a browser with a window of ordinary size."""
    options: Any = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(each)
    options.add_argument("--window-size=1600,950")
    page = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _PROBE})
        yield page
    finally:
        page.quit()


@contextmanager
def _beating(url: str, names: list[str]) -> Iterator[Event]:
    """Let all nodes beat, in a thread; when the event that is yielded is set, the second half."""
    quiet, ended, all_have = Event(), Event(), Event()

    def run() -> None:
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as connection:
            number = 0
            while not ended.is_set():
                beat(connection, names[len(names) // 2 :] if quiet.is_set() else names, number)
                all_have.set()
                number += 1
                ended.wait(_PERIOD)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        all_have.wait(_PATIENCE)
        yield quiet
    finally:
        ended.set()
        thread.join(_PATIENCE)
