"""`python -m benchmarks [--quick]`: measure, and print one table."""

import argparse
import sys
from collections.abc import Callable
from time import perf_counter

from benchmarks import http, storm, tracking
from benchmarks.table import Row, formatted, machine


def main() -> None:
    """Run all benchmarks; says on standard error what it is at."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and shorter")
    quick = parser.parse_args().quick
    parts: list[tuple[str, Callable[[], list[Row]]]] = [
        ("heartbeats over HTTP", lambda: http.measure(2 if quick else 5, 1 if quick else 3)),
        ("the tracker", lambda: tracking.measure(100_000 if quick else 1_000_000)),
        ("a storm", lambda: storm.measure(1_000 if quick else 10_000)),
    ]
    rows = machine()
    for i, (name, measure) in enumerate(parts, 1):
        print(f"[{i}/{len(parts)}] measuring {name} ...", file=sys.stderr, flush=True)
        began = perf_counter()
        rows += measure()
        print(f"      took {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(formatted(rows))


if __name__ == "__main__":
    main()
