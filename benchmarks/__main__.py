"""Measure hbtd and print a table: `python -m benchmarks [--quick] [--only WORD] [--plot FILE]`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks import (
    access,
    agent,
    command,
    components,
    crowds,
    events,
    growth,
    history,
    http,
    page,
    queries,
    reconciling,
    reconnect,
    replicas,
    rules,
    start,
    storm,
    tracking,
)
from benchmarks.plot import svg
from benchmarks.table import Row, formatted, machine


def main() -> None:
    """Run all benchmarks, with progress on standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and shorter runs")
    parser.add_argument(
        "--only", metavar="WORD", default="", help="only the parts whose name has this word"
    )
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw the rates as SVG into a file"
    )
    arguments = parser.parse_args()
    quick = arguments.quick
    rates: dict[str, dict[str, float]] = {}

    def over_http() -> list[Row]:
        rows, measured = http.measure(
            http.Rounds(3, 1) if quick else http.Rounds(8, 2),
            None if quick else http.Rounds(3, 10),
        )
        rates.update(measured)
        return rows

    parts: list[tuple[str, Callable[[], list[Row]]]] = [
        ("heartbeats over HTTP", over_http),
        ("credentials of nodes", lambda: access.measure(1, 3 if quick else 15)),
        ("crowds of connections", lambda: crowds.measure(1_000 if quick else 10_000, 1_000)),
        ("the tracker", lambda: tracking.measure(100_000 if quick else 1_000_000)),
        ("the log of transitions", lambda: history.measure(100_000 if quick else 1_000_000)),
        ("queries", lambda: queries.measure(10_000 if quick else 100_000)),
        ("rules that hold back", lambda: rules.measure(20_000 if quick else 100_000)),
        ("HSM's table", lambda: reconciling.measure(10_000 if quick else 100_000)),
        ("readers of events", lambda: events.measure(20_000 if quick else 100_000)),
        ("the agent of nodes", lambda: agent.measure(10 if quick else 50, 5 if quick else 60)),
        ("the command hbtctl", lambda: command.measure(10_000 if quick else 100_000)),
        ("replicas", lambda: replicas.measure(2 if quick else 5, 3 if quick else 5)),
        ("the process", lambda: components.measure(20_000 if quick else 100_000)),
        ("stored components", lambda: start.measure(100_000 if quick else 955_000)),
        ("a restart", lambda: list(reconnect.measure(1_000 if quick else 10_000))),
        ("the growth of etcd", lambda: growth.measure(1_000 if quick else 10_000, 60)),
        ("the page", lambda: page.measure(20_000, 10_000)),
        ("the page of a large machine", lambda: page.measure(20_000 if quick else 100_000, 0)),
        ("a storm", lambda: storm.measure(1_000 if quick else 10_000)),
    ]
    parts = [part for part in parts if arguments.only in part[0]]
    rows = machine()
    for i, (name, measure) in enumerate(parts, 1):
        print(f"[{i}/{len(parts)}] measuring {name} ...", file=sys.stderr, flush=True)
        began = perf_counter()
        rows += measure()
        print(f"      took {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(formatted(rows))
    if arguments.plot and rates:
        arguments.plot.write_text(svg(rates))


if __name__ == "__main__":
    main()
