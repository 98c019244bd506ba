"""The tests of what the log tells about the past; all stores pass them (`store_contract.py`)."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from twisted.internet.defer import CancelledError

from hbtd.store.past import LogEntry, Selection, Span, StateThen
from hbtd.tracker.transitions import Phase
from tests.support.store_contract import DIED, RESTARTED, STARTED, WARNED, StoreFixture, judgement
from tests.support.store_log_contract import DEAD, EVERYTHING, HEALTHY, UNKNOWN, judged

NEXT = {
    UNKNOWN: [STARTED],
    HEALTHY: [WARNED, DIED],
    Phase.WARNED: [RESTARTED, DIED],
    DEAD: [STARTED],
}
"""The transitions that follow each phase."""


class PastModel:
    """A model of a log, whose times never step back, and of what it tells."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []

    def history(self, span: Span, selection: Selection, most: int) -> list[LogEntry]:
        """Return what is asked for, entry by entry."""
        order = reversed(self.entries) if span.newest_first else iter(self.entries)
        found = [
            each
            for each in order
            if span.since <= each.judgement.at < span.until
            and selection.includes(each.judgement.component)
        ]
        if span.after is not None:
            after = span.after
            found = [e for e in found if (e.number < after) is span.newest_first]
            found = [e for e in found if e.number != after]
        return found[:most]

    def states(self, at: float) -> dict[str, tuple[Phase, float]]:
        """Return the states of all components, and since when; 0 if that is not known."""
        states: dict[str, tuple[Phase, float]] = {}
        for each in (entry.judgement for entry in self.entries):
            if each.at <= at:
                states[each.component] = each.transition.after, each.at
            elif each.component not in states:
                states[each.component] = each.before, 0.0
        return {x: state for x, state in states.items() if state[0] is not UNKNOWN}


class Names(frozenset[str]):
    """Names that note whether the store has looked at them."""

    begun: list["Names"]

    def __iter__(self) -> Iterator[str]:
        self.begun.append(self)
        return super().__iter__()

    def __contains__(self, name: object) -> bool:
        self.begun.append(self)
        return super().__contains__(name)


class PastContract(StoreFixture):
    """The tests of `history`, `states_at` and `told`."""

    async def test_commit_among_questions(self) -> None:
        """A commit does not wait for the many who have asked about the past before."""
        store = await self.opened()
        if not store.durable:
            return  # it answers at once
        await store.commit([judged("x1", 1.0, STARTED)], [])
        begun: list[Names] = []
        answers = []
        for _ in range(50):
            names = Names(["x1"])
            names.begun = begun
            answers.append(store.history(Span(), Selection(names), 10))
            answers.append(store.states_at(1.0, Selection(names), "", 10))
        await store.commit([judged("x2", 2.0, STARTED)], [])
        self.assertLess(len(set(map(id, begun))), 20)
        for each in answers[::3]:
            each.addErrback(lambda failure: failure.trap(CancelledError))
            each.cancel()  # the client has gone
        for number, each in enumerate(answers):
            if number % 3:
                self.assertTrue(await each)
        self.assertTrue(await store.history(Span(), Selection(["x2"]), 10))

    async def told_story(self, store: Any, count: int, seed: int) -> PastModel:
        """Log a random story of twelve components of two cabinets."""
        rng, model, at = random.Random(seed), PastModel(), 100.0
        phases = dict.fromkeys([f"x{c}c{k}s{i}" for c in (1, 10) for k in (0, 1) for i in range(3)],
                               UNKNOWN)  # fmt: skip
        made = 0
        while made < count:
            some = []
            for xname in rng.sample(sorted(phases), rng.choice([1, 2, 5])):
                transition = rng.choice(NEXT[phases[xname]])
                silent = at / 8 if transition.alarming else None
                each = judged(xname, at, transition, phases[xname], "w", f"t{made}")
                some.append(replace(each, silent=silent))
                phases[xname] = transition.after
                made += 1
            at += rng.choice([0.0, 1.0, 2.5])
            after = store.last_number()
            await store.commit(some)
            model.entries += await store.log(after, EVERYTHING)
        return model

    async def test_history(self) -> None:
        """The history of any components in any span of time comes in portions, in both orders."""
        store = await self.opened()
        model = await self.told_story(store, 150, 1)
        rng = random.Random(2)
        times = [each.judgement.at for each in model.entries]
        names = sorted({each.judgement.component for each in model.entries})
        for case in range(80):
            since = rng.choice([-inf, 0.0, *rng.sample(times, 2)])
            until = rng.choice([inf, 0.0, *rng.sample(times, 2)])
            newest = rng.random() < 0.5
            under = rng.choice(["", "", "x1", "x10c1", "x1c0s1", "x9"])
            chosen = None if rng.random() < 0.5 else set(rng.sample([*names, "x77"], 4))
            selection, most = Selection(chosen, under), rng.choice([1, 3, 7, 1000])
            span: Span | None = Span(since, until, newest)
            portions = 0
            while span is not None and portions < 5:
                found = list(await store.history(span, selection, most))
                expected = model.history(span, selection, most)
                self.assertEqual(_said(found), _said(expected), (case, span, selection, most))
                span = span._replace(after=found[-1].number) if found else None
                portions += 1

    async def test_states_at(self) -> None:
        """What any components were at any time comes in portions, in the order of their names."""
        store = await self.opened()
        model = await self.told_story(store, 100, 3)
        rng = random.Random(4)
        times = sorted({each.judgement.at for each in model.entries})
        for case, at in enumerate([0.0, inf, *times, *(each + 0.25 for each in times)]):
            under = rng.choice(["", "", "x1", "x10c1", "x1c0s1"])
            chosen = None if rng.random() < 0.5 else {"x1c0s1", "x10c0s0", "x10c1s2", "x5"}
            selection, most = Selection(chosen, under), rng.choice([1, 4, 1000])
            expected = {x: state for x, state in model.states(at).items() if selection.includes(x)}
            after, found = "", dict[str, tuple[Phase, float]]()
            while True:
                then = await store.states_at(at, selection, after, most)
                self.assertTrue(then.complete)
                self.assertLessEqual(len(then.states), most)
                names = [each.component for each in then.states]
                self.assertEqual(names, sorted(names))
                found.update((each.component, (each.phase, each.since)) for each in then.states)
                if len(names) < most:
                    break
                after = names[-1]
            self.assertEqual(found, expected, (case, at, selection, most))

    async def test_silent(self) -> None:
        """The log knows for how long a component had been silent, if that is why."""
        store = await self.opened()
        dead = replace(judged("x1", 9.0, DIED), silent=30.5)
        await store.commit([judged("x0", 8.0, STARTED), dead])
        first, second = await store.log(0, 9)
        self.assertEqual((first.judgement.silent, second.judgement.silent), (None, 30.5))
        self.assertEqual(
            list((await store.states_at(inf)).states),
            [StateThen("x0", HEALTHY, 8.0, None), StateThen("x1", DEAD, 9.0, 30.5)],
        )

    async def test_trimmed(self) -> None:
        """The states of before what was trimmed are incomplete; those of after it are right."""
        store = await self.opened()
        await store.commit([judged("x1", 1.0, STARTED, UNKNOWN)])
        await store.commit([judged("x2", 2.0, STARTED, UNKNOWN)])
        await store.commit([judged("x1", 3.0, DIED, HEALTHY)])
        self.assertEqual(await store.trim(2.5, EVERYTHING, EVERYTHING), 1)
        self.assertFalse((await store.states_at(0.5)).complete)
        then = await store.states_at(2.0)
        self.assertTrue(then.complete)
        self.assertEqual(
            list(then.states),
            [StateThen("x1", HEALTHY, 0.0, None), StateThen("x2", HEALTHY, 2.0, None)],
        )

    async def test_history_after_trimming(self) -> None:
        """The history is what is left of the log."""
        store = await self.opened()
        for at in (1.0, 2.0, 3.0):
            await store.commit([judged("x1", at)])
        await store.trim(3.0, EVERYTHING, EVERYTHING)
        self.assertEqual([each.judgement.at for each in await store.history(Span())], [3.0])

    async def test_told(self) -> None:
        """The store knows when HSM has acknowledged the latest alarm of a component."""
        first = self.make_store()
        await first.open()
        await first.commit([judgement("x1"), judgement("x2", DIED), judgement("x3", STARTED)])
        self.assertEqual(await first.told(), {})
        await first.delivered([judgement("x1"), judgement("x3", STARTED)], 5.25)
        await first.delivered([judgement("x2", DIED)])
        await first.close()
        second = await self.opened()
        self.assertEqual(await second.told(), {"x1": (WARNED, 5.25)})
        await second.delivered([judgement("x1")], 6.0)
        self.assertEqual(await second.told(), {"x1": (WARNED, 5.25)})
        await second.commit([judgement("x1", DIED)])
        self.assertEqual(await second.told(), {})
        await second.delivered([judgement("x1", WARNED)], 7.0)
        self.assertEqual(await second.told(), {})
        await second.delivered([judgement("x1", DIED)], 8.0)
        self.assertEqual(await second.told(), {"x1": (DIED, 8.0)})
        await second.forget("x1")
        self.assertEqual(await second.told(), {})


def _fields(each: Any) -> tuple[Any, ...]:
    return (each.component, each.transition, each.timestamp, each.before, each.why, each.at)


def _said(entries: Sequence[LogEntry]) -> list[tuple[Any, ...]]:
    return [(each.number, *_fields(each.judgement), each.judgement.silent) for each in entries]
