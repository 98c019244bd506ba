"""The queue of judgements that are not committed to the store yet."""

from collections import deque
from collections.abc import Iterable, Sequence

from hbtd.tracker.transitions import Judgement, Transition


class Uncommitted:
    """A queue of judgements to be committed to the store.

    Judgements at the front of the queue that are being committed are called *in hand*. The running
    time of `add`, `take` and `finish` depends on the number of judgements that they add or return,
    not on the length of the queue.
    """

    def __init__(self) -> None:
        self._waiting: deque[Judgement] = deque()
        self._in_hand: list[Judgement] = []
        # How many judgements about each component are in the queue.
        self._counts: dict[str, int] = {}
        # How many of these are no alarms: the component was heard.
        self._heard: dict[str, int] = {}
        # The latest transitions that were passed on, or taken, in this run of commits.
        self._latest: dict[str, Transition] = {}
        self._passed_on = False
        # The components that were forgotten while a judgement about them was in hand.
        self._forgotten: set[str] = set()

    def __contains__(self, xname: str) -> bool:
        """Return whether the queue has a judgement about the component `xname`."""
        return xname in self._counts

    def was_heard(self, xname: str) -> bool:
        """Return whether the queue has a judgement `STARTED` or `RESTARTED` about a component.

        Such a judgement is caused by a heartbeat.
        """
        return xname in self._heard

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_hand)

    @property
    def waiting(self) -> bool:
        """Whether the queue has judgements whose commit has not begun."""
        return bool(self._waiting)

    @property
    def in_hand(self) -> Sequence[Judgement]:
        """The judgements that are being committed: those that the last call of `take` returned.

        The sequence is empty after `finish` has been called.
        """
        return self._in_hand

    @property
    def first(self) -> Judgement | None:
        """The first judgement in the queue, which may be in hand; `None` if the queue is empty."""
        if self._in_hand:
            return self._in_hand[0]
        return self._waiting[0] if self._waiting else None

    def components(self) -> set[str]:
        """Return the xnames of the components about which the queue has judgements."""
        return set(self._counts)

    def add(self, judgements: Iterable[Judgement]) -> None:
        """Add judgements at the end of the queue."""
        for judgement in judgements:
            self._waiting.append(judgement)
            xname = judgement.component
            self._counts[xname] = self._counts.get(xname, 0) + 1
            if not judgement.transition.alarming:
                self._heard[xname] = self._heard.get(xname, 0) + 1

    def take(self, most: int) -> Sequence[Judgement]:
        """Return the first judgements of the queue, up to `most`, to be committed by the caller.

        The returned judgements stay in the queue until `finish` is called; until then, further
        calls return the same judgements, followed by later ones if there are fewer than `most`.

        Repetitions are dropped from the queue, and not returned. A judgement is a repetition if the
        previous judgement about the same component has the same transition, and has been committed
        since the queue was last empty. Repetitions occur when a replica becomes the leader while
        its own request to the previous leader is pending.
        """
        while self._waiting and len(self._in_hand) < most:
            judgement = self._waiting.popleft()
            xname = judgement.component
            if self._passed_on:
                if self._latest.get(xname) is judgement.transition:
                    self._count_less(judgement)
                    continue
                self._latest[xname] = judgement.transition
            self._in_hand.append(judgement)
        if not self._in_hand:
            self._end_run()
        return self._in_hand

    def finish(self, *, passed_on: bool) -> Sequence[Judgement]:
        """Remove the judgements in hand from the queue, because they are committed; return them.

        `passed_on` says whether the caller passes these judgements on to HSM and Kafka. If it is
        false, `take` does not drop later judgements that repeat judgements committed before.
        """
        done, self._in_hand = self._in_hand, []
        for judgement in done:
            self._count_less(judgement)
        self._passed_on = passed_on and bool(self._waiting)
        if self._passed_on:
            self._latest.update(
                (each.component, each.transition)
                for each in done
                if each.component not in self._forgotten
            )
        else:
            self._end_run()
        self._forgotten.clear()
        return done

    def _end_run(self) -> None:
        self._passed_on = False
        self._latest = {}

    def drop_alarms(self) -> None:
        """Drop all alarms (`WARNED`, `DIED`) from the queue, even those in hand.

        Call this when another replica has become the leader and judges. From now on, `take` no
        longer drops judgements that repeat a judgement committed before this call.
        """
        self._end_run()
        self._waiting = deque(each for each in self._waiting if not each.transition.alarming)
        self._in_hand = [each for each in self._in_hand if not each.transition.alarming]
        self._counts = {}
        for judgement in (*self._in_hand, *self._waiting):
            self._counts[judgement.component] = self._counts.get(judgement.component, 0) + 1

    def drop_returns(self, xname: str) -> None:
        """Drop the judgements `STARTED` and `RESTARTED` about a component from the queue.

        Judgements in hand are dropped, too, but a commit in progress is not cancelled.
        """
        if xname not in self._heard:
            return
        self._latest.pop(xname, None)

        def drops(each: Judgement) -> bool:
            return each.component == xname and not each.transition.alarming

        for each in filter(drops, (*self._in_hand, *self._waiting)):
            self._count_less(each)
        self._waiting = deque(each for each in self._waiting if not drops(each))
        self._in_hand = [each for each in self._in_hand if not drops(each)]

    def forget(self, xname: str) -> bool:
        """Drop the alarms (`WARNED`, `DIED`) about a component from the queue, even those in hand.

        Return whether a judgement about the component was in hand; its commit is not cancelled.
        """
        self._latest.pop(xname, None)
        if xname not in self._counts:
            return False
        was_in_hand = any(each.component == xname for each in self._in_hand)
        self._waiting = deque(self._without_alarms(self._waiting, xname))
        self._in_hand = self._without_alarms(self._in_hand, xname)
        if was_in_hand:
            self._forgotten.add(xname)
        return was_in_hand

    def _without_alarms(self, judgements: Iterable[Judgement], xname: str) -> list[Judgement]:
        kept: list[Judgement] = []
        for judgement in judgements:
            if judgement.component == xname and judgement.transition.alarming:
                self._count_less(judgement)
            else:
                kept.append(judgement)
        return kept

    def _count_less(self, judgement: Judgement) -> None:
        counts = [self._counts]
        if not judgement.transition.alarming:
            counts.append(self._heard)
        for each in counts:
            each[judgement.component] -= 1
            if not each[judgement.component]:
                del each[judgement.component]
