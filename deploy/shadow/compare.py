#!/usr/bin/env python3
"""Compare what two hbtd say of the same nodes, above all the original and one that shadows it.

    compare.py --seconds 3600 --hsm https://hsm.example/hsm/v2 https://original:28500 https://shadow:28500

Every few seconds it asks both whether each component is heartbeating, and reports differences that
last. The components are those that the second hbtd knows (its /components), and those in a file of
names, one a line. With `--hsm` it also compares what the second hbtd judges with the state and flag
that HSM has, which the first one told. It changes nothing. Python's standard library is enough.

The exit status is 0 if there was no lasting difference, 1 if there was one, 2 for a wrong command
line, and 3 if one of them could not be asked even once.
"""

import argparse
import json
import ssl
import sys
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

_AT_ONCE = 5000
"""Names asked for in one request."""


class Unusable(Exception):
    """A service could not be asked, or its answer can't be understood; the message says why."""


class Services:
    """A client of hbtd and HSM that decodes their answers."""

    def __init__(self, context: ssl.SSLContext, timeout: float) -> None:
        """Make a client; `context` is for https, and `timeout` is in seconds."""
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        self._timeout = timeout

    def ask(self, url: str, body: Any = None) -> Any:
        """Return the decoded JSON answer of a GET or, if there is a `body`, of a POST.

        Raise `Unusable` if there is none.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            with self._opener.open(
                Request(url, data),  # noqa: S310  # the URL is the operator's
                timeout=self._timeout,
            ) as answer:
                return json.loads(answer.read().decode())
        except (OSError, HTTPException, ValueError) as error:
            raise Unusable(f"{url}: {error}") from error

    def heartbeating(self, url: str, names: list[str]) -> dict[str, bool]:
        """Return whether each of `names` is heartbeating, by name, as the hbtd at `url` says."""
        states: dict[str, bool] = {}
        for start in range(0, len(names), _AT_ONCE):
            body = {"XNames": names[start : start + _AT_ONCE]}
            answer = self.ask(f"{url}/hmi/v1/hbstates", body)
            states.update((each["XName"], each["Heartbeating"]) for each in answer["HBStates"])
        return states

    def judged(self, url: str) -> dict[str, str]:
        """Return the state of each component, by name, from `/components` of the hbtd at `url`.

        The original hbtd has no `/components`.
        """
        states: dict[str, str] = {}
        after: str | None = None
        while True:
            query = f"?{urlencode({'after': after})}" if after else ""
            page = self.ask(f"{url}/hmi/v1/components{query}")
            states.update((each["XName"], each["State"]) for each in page["Components"])
            after = page["Next"]
            if after is None:
                return states

    def table(self, url: str) -> dict[str, tuple[str, str]]:
        """Return the state and flag of each component, by name, from HSM at the base URL `url`."""
        answer = self.ask(f"{url}/State/Components")
        return {
            each["ID"]: (each.get("State", ""), each.get("Flag", ""))
            for each in answer["Components"]
        }


def agrees(judged: str, state: str, flag: str) -> bool:
    """Return whether a component's state and flag in HSM fit its state in hbtd, `judged`."""
    if judged == "dead":
        return state != "Ready"
    return state == "Ready" and (flag == "Warning") == (judged == "warned")


def differences(
    services: Services, options: argparse.Namespace
) -> tuple[int, dict[tuple[str, str], str]]:
    """Return how many components there are, and the present differences, by kind and name.

    A kind is `heartbeating` or `HSM`; a difference is a sentence.
    """
    judged = services.judged(options.second)
    names = sorted({*judged, *options.names})
    first = services.heartbeating(options.first, names)
    second = services.heartbeating(options.second, names)
    found = {
        ("heartbeating", name): f"heartbeating is {first[name]} and {second[name]}"
        for name in names
        if first[name] != second[name]
    }
    if options.hsm:
        table = services.table(options.hsm)
        for name, state in judged.items():
            theirs = table.get(name)
            if theirs is not None and not agrees(state, *theirs):
                found["HSM", name] = f"HSM has {theirs[0]}/{theirs[1]}, the second says {state}"
    return len(names), found


class Comparison:
    """The present differences, since when there is each of them, and which of them last."""

    def __init__(self, settle: float, say: Callable[[str], None]) -> None:
        """Begin without differences.

        `say` is called with a line when a difference has lasted `settle` seconds, and when it ends.
        """
        self._settle = settle
        self._say = say
        self._since: dict[tuple[str, str], float] = {}
        self._said: set[tuple[str, str]] = set()
        self.lasting: set[str] = set()
        """The components of which there was a lasting difference."""

    def note(self, now: float, found: dict[tuple[str, str], str]) -> None:
        """Note the differences `found` at the time `now`, in seconds of a monotonic clock."""
        for key in self._said - set(found):
            self._said.discard(key)
            self._say(f"{key[1]}: agreed again after {now - self._since[key]:.0f} s")
        self._since = {key: self._since.get(key, now) for key in found}
        for key, since in self._since.items():
            if now - since >= self._settle and key not in self._said:
                self._said.add(key)
                self.lasting.add(key[1])
                self._say(f"{key[1]}: {found[key]}, for {now - since:.0f} s")


def compare(services: Services, options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Compare every few seconds until the time is over; return the exit status.

    `say` is called with each line to be printed.
    """
    comparison = Comparison(options.settle, say)
    end = time.monotonic() + options.seconds
    rounds = known = 0
    trouble: str | None = None
    while True:
        try:
            known, found = differences(services, options)
        except (Unusable, KeyError, TypeError) as error:
            if str(error) != trouble:
                say(f"could not compare: {error}")
            trouble = str(error)
        else:
            rounds += 1
            trouble = None
            comparison.note(time.monotonic(), found)
        if time.monotonic() + options.every > end:
            break
        time.sleep(options.every)
    say(
        f"compared {rounds} times, {known} components:"
        f" {len(comparison.lasting)} differed for {options.settle:g} s or longer"
    )
    if not rounds:
        return 3
    return 1 if comparison.lasting else 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("first", help="base URL of the hbtd that tells HSM, the original")
    parser.add_argument("second", help="base URL of the one beside it")
    parser.add_argument("--names", metavar="FILE", help="further components to ask for")
    parser.add_argument("--hsm", metavar="URL", help="base URL of HSM, as in --sm_url")
    parser.add_argument("--ca", metavar="FILE", help="authorities to trust, in PEM")
    parser.add_argument("--insecure", action="store_true", help="check no certificates")
    parser.add_argument("--seconds", type=float, default=600, help="for how long (600)")
    parser.add_argument("--every", type=float, default=5, help="pause between two looks (5)")
    parser.add_argument(
        "--settle", type=float, default=20, help="how long a difference may last (20)"
    )
    return parser


def main() -> int:
    """Compare as the command line says, and return the exit status."""
    parser = make_parser()
    options = parser.parse_args()
    options.first, options.second = options.first.rstrip("/"), options.second.rstrip("/")
    options.hsm = options.hsm and options.hsm.rstrip("/")
    try:
        context = ssl.create_default_context(cafile=options.ca)
        names = Path(options.names).read_text(encoding="utf-8") if options.names else ""
    except (OSError, ValueError) as error:
        parser.error(str(error))
    options.names = names.split()
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    def say(line: str) -> None:
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), line, flush=True)

    return compare(Services(context, 30), options, say)


if __name__ == "__main__":
    sys.exit(main())
