"""A headless Chromium, as Debian has it, that looks at hbtd's page."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

NONE = "\N{EN DASH}"
"""What stands on the page for a count that is not known yet."""

_PATIENCE = 20.0
"""Seconds within which the page must show something."""

_PROBE = Path(__file__).with_suffix(".js").read_text()
"""Runs in the page before its own scripts."""

_CLOCK = """
globalThis.Date = class extends Date {
  constructor(...given) { if (given.length) super(...given); else super(Date.now()); }
  static now() { return super.now() + AHEAD; }
};
"""
"""Runs in the page before its own scripts if the browser's clock is to be wrong."""


def why_not() -> str | None:
    """Return why there is no browser, `None` if there is one."""
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            return f"There is no {name}: apt install chromium chromium-driver"
    return None


class Browser:
    """A browser with one window. Its methods block: call them in a thread."""

    def __init__(
        self, width: int = 1400, height: int = 900, *, dark: bool = False, ahead: float = 0.0
    ) -> None:
        """Start a browser, whose clock is some seconds `ahead`."""
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for each in (
            "--headless=new",
            "--no-sandbox",  # tests may run as root
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--hide-scrollbars",
            "--ignore-certificate-errors",  # hbtd has made its certificate itself
        ):
            options.add_argument(each)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _PROBE})
        if ahead:
            source = _CLOCK.replace("AHEAD", str(round(ahead * 1000)))
            self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})

    def resize(self, width: int, height: int, ratio: float = 1) -> None:
        """Give the page this size in its pixels, each of which is `ratio` of the screen's wide."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, url: str) -> None:
        """Open a page."""
        self.driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        """Return what a script returns; it may await."""
        result = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            f"(async (...given) => {{ {script} }})(...[...arguments].slice(0, -1))"
            ".then(done, (error) => done('failed: ' + error.stack));",
            *arguments,
        )
        if isinstance(result, str) and result.startswith("failed: "):
            raise AssertionError(result)
        return result

    def text(self, selector: str) -> str:
        """Return the text of the first element that a CSS selector finds; empty if it is hidden."""
        found: str = self.driver.find_element(By.CSS_SELECTOR, selector).text
        return found

    def click(self, selector: str) -> None:
        """Click the first element that a CSS selector finds."""
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def write(self, selector: str, text: str) -> None:
        """Type a text into an input, in place of what is in it, and press Enter."""
        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        element.clear()
        element.send_keys(text, Keys.ENTER)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def until(self, condition: Callable[[], Any], what: str, patience: float = _PATIENCE) -> float:
        """Wait until a condition holds; return how many seconds that took.

        Raise `AssertionError`, which says `what` was awaited, if it takes too long.
        """
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > patience:
                shown = self.text("body")
                raise AssertionError(f"{what}: not within {patience} s. The page has: {shown}")
            time.sleep(0.02)
        return time.monotonic() - began

    def until_live(self) -> None:
        """Wait until the page shows what is."""
        self.until(lambda: self.text("#status") == "live", "live")

    def counts(self) -> tuple[int, ...]:
        """Return how many components the page says are healthy, warned about, and dead."""
        texts = self.run(
            "return [...document.querySelectorAll('#counters b')].map((each) => each.textContent)"
        )
        return tuple(int(text.replace(",", "").replace(NONE, "-1")) for text in texts)

    def colour(self, name: str) -> str:
        """Return the colour in which a component is drawn; empty if it is not drawn.

        It is `healthy`, `spared`, `warned`, `dead` or `dim`.
        """
        found: str = self.run("return window.colourOf(given[0])", name)
        return found

    def click_on(self, name: str) -> None:
        """Click where a component is drawn."""
        place = self.run("return window.placeOf(given[0])", name)
        for kind in ("mousePressed", "mouseReleased"):
            self.driver.execute_cdp_cmd(
                "Input.dispatchMouseEvent",
                {"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1},
            )

    def announced(self) -> str:
        """Return what was last said to whoever listens rather than looks."""
        said: str = self.run("return document.getElementById('announcer').textContent")
        return said

    def complaints(self) -> list[str]:
        """Return what the browser's console has that is no information, since the last call."""
        entries = self.driver.get_log("browser")
        return [
            each["message"]
            for each in entries
            # Canvas: `colour` reads back what is drawn, which the page itself never does.
            if each["level"] in ("SEVERE", "WARNING") and "getImageData" not in each["message"]
        ]

    def requests(self) -> set[str]:
        """Return the scheme and host of all requests since the last call."""
        hosts = set()
        for each in self.driver.get_log("performance"):
            message = json.loads(each["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith(("data:", "chrome:")):
                    hosts.add("/".join(url.split("/")[:3]))
        return hosts

    def picture(self, path: Path) -> None:
        """Write a picture of the page, as PNG."""
        self.driver.save_screenshot(str(path))

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()
