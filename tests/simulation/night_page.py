"""The page that says what the simulated worlds of a night did."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

_LEAST = 12
"""How many files of those of which the least was run are listed."""

_OUTSIDE = {"agent", "ctl", "simulator", "smoke"}
"""Folders of hbtd that are not run in the worlds: other programs, and the fake HSM."""


def page(worlds: Sequence[Mapping[str, Any]], files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page, in Markdown.

    `worlds` are what `night.Night` keeps, `files` what Coverage reports of each file of hbtd.
    """
    return "\n".join(
        [
            "# What the simulated machine rooms of a night did",
            "",
            "Written by `make simulate-night`. Each world is a machine room in which hbtd's real",
            "code runs, made from a seed. What must hold in each is in",
            "[guarantees.md](guarantees.md).",
            "",
            *_worlds(worlds),
            *_wrong(worlds),
            *_faults(worlds),
            *_states(worlds),
            *_code(files),
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return a table; all but the first column are numbers."""
    return [
        f"| {' | '.join(head)} |",
        f"| --- |{' ---: |' * (len(head) - 1)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
        "",
    ]


def _worlds(worlds: Sequence[Mapping[str, Any]]) -> list[str]:
    kinds = sorted({each["kind"] for each in worlds})
    rows = []
    for kind in [*kinds, ""]:
        some = [each for each in worlds if kind in ("", each["kind"])]
        spent = sum(each["spent"] for each in some)
        lived = sum(each["seconds"] for each in some)
        nodes = sum(each["node_seconds"] for each in some)
        excused = sum(each["excused"] for each in some)
        rows.append(
            [
                kind or "all",
                f"{len(some):,}",
                sum(bool(each["wrong"]) for each in some),
                f"{nodes / 3600:,.0f}",
                f"{100 * excused / nodes if nodes else 0:.2f}",
                f"{spent / 3600:.2f}",
                f"{lived / spent if spent else 0:.0f}",
                f"{sum(each['counts'].get('heard', 0) for each in some):,}",
            ]
        )
    head = ["worlds", "run", "wrong", "node-hours", "% excused", "CPU hours", "times life"]
    versions = sorted({each["version"] for each in worlds})
    return [
        *_table([*head, "heartbeats"], rows),
        "Excused is the time in which a node beat, and hbtd could not hear it.",
        f"Trees of hbtd that ran: {', '.join(versions) or 'none'}.",
        "",
    ]


def _wrong(worlds: Sequence[Mapping[str, Any]]) -> list[str]:
    wrong = [each for each in worlds if each["wrong"]]
    if not wrong:
        return ["No world was wrong.", ""]
    lines = ["## Worlds that were wrong", ""]
    lines += [f"- {each['kind']}, seed {each['seed']}: {each['wrong']}" for each in wrong]
    return [*lines, ""]


def _faults(worlds: Sequence[Mapping[str, Any]]) -> list[str]:
    happened: Counter[str] = Counter()
    met_in: Counter[str] = Counter()
    for each in worlds:
        kinds = Counter[str]()
        for what, _, often in each["met"]:
            kinds[what] += often
        happened += kinds
        met_in.update(kinds.keys())
    rows = [[what, f"{often:,}", f"{met_in[what]:,}"] for what, often in happened.most_common()]
    return ["## What went wrong in them", "", *_table(["what", "times", "worlds"], rows)]


def _states(worlds: Sequence[Mapping[str, Any]]) -> list[str]:
    met: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in worlds:
        for what, state, often in each["met"]:
            met[state][what] += often
    kinds = sorted({what for counts in met.values() for what in counts})
    pairs = sum(len(counts) for counts in met.values())
    rows = [
        [state, f"{counts.total():,}", f"{len(counts)} of {len(kinds)}"]
        for state, counts in sorted(met.items(), key=lambda item: -item[1].total())
    ]
    return [
        "## The states in which it did",
        "",
        f"{len(met)} states were met, and {pairs:,} of {len(met) * len(kinds):,} pairs of a state",
        "and of a thing that goes wrong in it.",
        "",
        *_table(["state", "things that went wrong", "kinds of them"], rows),
    ]


def _code(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not files:
        return []
    ran: Counter[str] = Counter()
    all_of: Counter[str] = Counter()
    shares = []
    for name, file in files.items():
        folder, *rest = PurePath(name).parts[PurePath(name).parts.index("hbtd") + 1 :]
        if folder in _OUTSIDE:
            continue
        summary = file["summary"]
        where = f"hbtd/{folder}/" if rest else "hbtd/"
        ran[where] += summary["covered_lines"]
        all_of[where] += summary["num_statements"]
        if summary["num_statements"]:
            share = summary["covered_lines"] / summary["num_statements"]
            shares.append((share, summary["num_statements"], name))
    rows = [
        [f"`{where}`", lines, f"{100 * ran[where] / lines if lines else 100:.0f}"]
        for where, lines in sorted(all_of.items())
    ]
    least = sorted(each for each in shares if each[1] >= _LEAST)[:_LEAST]
    total = 100 * ran.total() / all_of.total() if all_of else 0
    return [
        "## The code that ran",
        "",
        f"{total:.0f} % of the lines of the daemon, in a part of the worlds; tests of the parts",
        "run the rest.",
        "",
        *_table(["folder", "lines", "% run"], rows),
        "The least was run of these:",
        "",
        *(f"- `{name}`: {100 * share:.0f} % of {lines}" for share, lines, name in least),
        "",
    ]
