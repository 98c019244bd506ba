"""Updates that HSM may still carry out after hbtd has abandoned them."""

from collections.abc import Container, Iterable
from typing import NamedTuple

from hbtd.tracker.transitions import Judgement, Transition


class _Doubt(NamedTuple):
    """A component that HSM may still change because of abandoned updates."""

    until: float
    """The time when HSM must have finished abandoned updates, in seconds of the clock."""

    abandoned: frozenset[Transition]
    """The component's transitions in those updates."""

    sent_since: Judgement | None
    """The last judgement with another transition that HSM has acknowledged since, if any."""


# One set, and one `_Doubt`, for all components of a batch: a start with a million judgements to
# resume has no room for each.
_ALONE = {transition: frozenset({transition}) for transition in Transition}
_ANY = frozenset(Transition)


class InDoubt:
    """The components of abandoned updates, and the later judgements that HSM has acknowledged.

    An update is abandoned when hbtd no longer waits for HSM's answer. HSM continues an update whose
    client has timed out, concurrently with later updates, so the abandoned update may be the last
    to take effect. Later judgements on its components are therefore sent again once HSM must have
    finished the abandoned update.
    """

    def __init__(self) -> None:
        self._in_doubt: dict[str, _Doubt] = {}

    def __contains__(self, xname: str) -> bool:
        """Return whether an abandoned update may yet undo a later update of a component."""
        doubt = self._in_doubt.get(xname)
        return doubt is not None and doubt.sent_since is not None

    def abandoned(self, batch: Iterable[Judgement], until: float) -> None:
        """Record that the update with a batch was abandoned, although HSM may still carry it out.

        `until` is the time by which HSM must have finished the update. It is in seconds of a clock;
        `now` in calls of `settled` must be a time of the same clock.
        """
        alone = {each: _Doubt(until, _ALONE[each], None) for each in Transition}
        for judgement in batch:
            doubt = self._in_doubt.get(judgement.component)
            new = alone[judgement.transition]
            if doubt is not None:
                new = new._replace(abandoned=new.abandoned | doubt.abandoned)
            self._in_doubt[judgement.component] = new

    def inherited(self, batch: Iterable[Judgement], until: float) -> None:
        """Record that a previous process or leader may have abandoned updates with a batch.

        Before the judgements in the batch, it may have sent any other one on the same components,
        in an update that HSM has yet to carry out. `until` is as in `abandoned`.
        """
        doubt = _Doubt(until, _ANY, None)
        self._in_doubt.update((judgement.component, doubt) for judgement in batch)

    def acknowledged(self, batch: Iterable[Judgement]) -> None:
        """Record that HSM has acknowledged a batch.

        Judgements whose effect an abandoned update may yet undo will be returned by `settled`.
        """
        if not self._in_doubt:
            return
        for judgement in batch:
            doubt = self._in_doubt.get(judgement.component)
            if doubt is None:
                continue
            # The same update twice has the same result, until HSM is told something else.
            same = doubt.abandoned == {judgement.transition}
            if same and doubt.sent_since is None:
                continue
            since = None if same else judgement
            self._in_doubt[judgement.component] = doubt._replace(sent_since=since)

    def withdraw_alarm(self, xname: str) -> None:
        """Keep `settled` from returning the last judgement on a component if that is an alarm.

        Alarms are the transitions warned and died.
        """
        doubt = self._in_doubt.get(xname)
        if doubt is not None and doubt.sent_since and doubt.sent_since.transition.alarming:
            self._in_doubt[xname] = doubt._replace(sent_since=None)

    def settled(self, now: float, in_flight: Container[str] = ()) -> list[Judgement]:
        """Forget the abandoned updates that HSM must have finished by `now`.

        Return the later judgements on their components that HSM has acknowledged. These must be
        sent again, because an abandoned update may have undone their effect. `now` is in seconds of
        the clock of `abandoned`.

        Nothing is forgotten of the components in `in_flight`, of which an update is in progress:
        HSM may have carried it out before an abandoned one, and its answer has yet to be read.
        """
        over = [
            xname
            for xname, doubt in self._in_doubt.items()
            if doubt.until <= now and xname not in in_flight
        ]
        sent = [self._in_doubt.pop(xname).sent_since for xname in over]
        return [judgement for judgement in sent if judgement is not None]
