"""Reports of checks: in the Test Anything Protocol (TAP), version 14, or as JUnit's XML."""

import json
from collections.abc import Callable
from xml.etree import ElementTree

from hbtd.ctl.escaping import shown
from hbtd.smoke.checking import Result

_LONGEST = 2000


class TapReport:
    """A report in TAP; the lines about a check are written as soon as its outcome is known."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """Begin the report; `write` is called with each line, which has no line end."""
        self._write = write
        self._count = 0
        write("TAP version 14")

    def add(self, result: Result) -> None:
        """Write the lines about the outcome of one check."""
        self._count += 1
        name = _tap(result.name)
        if result.skipped:
            self._write(f"ok {self._count} - {name} # SKIP {_tap(result.text)}")
            return
        self._write(f"{'' if result.ok else 'not '}ok {self._count} - {name}")
        self._write("  ---")
        # JSON in ASCII is YAML, too.
        self._write(f"  message: {json.dumps(shown(result.text, _LONGEST))}")
        self._write(f"  duration_ms: {result.seconds * 1000:.1f}")
        self._write("  ...")

    def end(self, gave_up: str) -> None:
        """Write the number of outcomes and, unless `gave_up` is empty, a line with `gave_up`."""
        self._write(f"1..{self._count}")
        if gave_up:
            self._write(f"Bail out! {_tap(gave_up)}")


class JUnitReport:
    """A report as JUnit's XML, one document that is written at the end."""

    def __init__(self, write: Callable[[str], object], url: str) -> None:
        """Begin the report about the hbtd at `url`; `write` is called once, with the document."""
        self._write = write
        self._url = url
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        """Keep the outcome of one check until the document is written."""
        self._results.append(result)

    def end(self, gave_up: str) -> None:
        """Write the document.

        Unless `gave_up` is empty, add a test case that stands for the checks that were not run; the
        message of its error contains `gave_up`.
        """
        results = self._results
        suite = ElementTree.Element(
            "testsuite",
            name="hbtd-smoke",
            hostname=shown(self._url),
            tests=str(len(results) + bool(gave_up)),
            failures=str(sum(not each.ok for each in results)),
            errors=str(int(bool(gave_up))),
            skipped=str(sum(each.skipped for each in results)),
            time=f"{sum(each.seconds for each in results):.3f}",
        )
        for each in results:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname="hbtd-smoke",
                name=shown(each.name),
                time=f"{each.seconds:.3f}",
            )
            text = shown(each.text, _LONGEST)
            if each.skipped:
                ElementTree.SubElement(case, "skipped", message=text)
            elif each.ok:
                ElementTree.SubElement(case, "system-out").text = text
            else:
                failure = ElementTree.SubElement(
                    case, "failure", message=text, type=f"exit status {each.status}"
                )
                failure.text = text
        if gave_up:
            case = ElementTree.SubElement(
                suite, "testcase", classname="hbtd-smoke", name="the other checks", time="0.000"
            )
            text = f"not run: {shown(gave_up, _LONGEST)}"
            ElementTree.SubElement(case, "error", message=text, type="not run").text = text
        ElementTree.indent(suite)
        document = ElementTree.tostring(suite, "unicode")
        self._write(f'<?xml version="1.0" encoding="UTF-8"?>\n{document}')


def _tap(text: str) -> str:
    """Return a text for a line of TAP, with the characters escaped that have a meaning there."""
    return shown(text, _LONGEST).replace("\\", "\\\\").replace("#", "\\#")
