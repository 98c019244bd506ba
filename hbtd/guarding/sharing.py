"""Writes the state of the guard into the store, and passes statements on once they are there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.guarding.shared import KIND, NAME, SharedState, decode, encode
from hbtd.guarding.statements import Statement
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.settings import Setting

_KEPT: Final = 20
"""The number of statements that are kept even if they are old."""

_RECENT: Final = 60.0
"""Seconds for which all statements are kept, so that no replica misses any."""


class Sharing:
    """The state of the guard that all replicas share; only the leader writes it.

    Each replica passes each statement on to the listeners once, when the statement is in the store.
    If it can't be stored, the leader passes it on all the same; others get it with the next write.
    """

    _log = Logger()

    def __init__(
        self, store: IStore, elapsed: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        """Make the object; `elapsed` returns monotonic seconds, and `wall` the Unix time."""
        self._store = store
        self._elapsed = elapsed
        self._wall = wall
        self._listeners: list[Callable[[Statement], None]] = []
        self._begun = False
        self._leading = False
        self._told = 0
        self._written_at = 0.0
        self._writing = False
        self._wanted: SharedState | None = None
        self.state = SharedState()
        """The state as it is known here."""
        self.stale = False
        """Whether the leader has to write the state again, because the store lacks it."""
        store.settings.on_change(KIND, self._changed)

    def on_statement(self, listener: Callable[[Statement], None]) -> None:
        """Call `listener(statement)` for each statement of this or another replica from now on."""
        self._listeners.append(listener)

    def begin(self) -> None:
        """Pass on statements from now on; those that are in the store already are old."""
        self._begun = True
        self._told = self.state.number

    def lead(self) -> None:
        """Begin to write the state, as the leader."""
        self._leading, self.stale = True, False

    def follow(self) -> None:
        """Write no more, because another replica leads."""
        self._leading, self.stale, self._wanted = False, False, None

    @property
    def number(self) -> int:
        """The number of the last statement that is known here.

        If etcd has lost data, it may be one that is not in the store any more: the next one must
        not be taken for one that has been passed on.
        """
        return max(self.state.number, self._told)

    @property
    def age(self) -> float:
        """How many seconds ago the state was written, as far as that is known here.

        For what was in the store at the start that is a difference of wall clocks, but never less
        than 0; for what has arrived since then it is the time since it arrived.
        """
        return max(self._elapsed() - self._written_at, 0.0)

    def write(
        self,
        statements: Sequence[Statement],
        disruptions: Sequence[Mapping[str, Any]],
        counts: Mapping[str, tuple[int, int]],
    ) -> None:
        """Write new statements, and what is disrupted now; the state is known here at once."""
        now = self._wall()
        told = [*self.state.statements, *statements]
        recent = sum(each.at > now - _RECENT for each in told)
        number = statements[-1].number if statements else self.state.number
        kept = told[-max(recent, _KEPT) :]
        self._note(SharedState(now, number, kept, disruptions, counts), 0.0)
        self._wanted = self.state
        if not self._writing:
            self._write()

    def _note(self, state: SharedState, age: float) -> None:
        self.state, self._written_at = state, self._elapsed() - age

    def _write(self) -> None:
        state, self._wanted = self._wanted, None
        if state is None:
            return
        self._writing, self.stale = True, False
        done = self._store.write_settings([Setting(KIND, NAME, encode(state))])
        done.addErrback(self._not_written).addCallback(self._written, state)
        done.addErrback(self._failed)

    def _not_written(self, failure: Failure) -> None:
        failure.trap(StoreUnusable)  # the log says elsewhere that the store can't be used
        self.stale = self._leading

    def _written(self, _: object, state: SharedState) -> None:
        self._writing = False
        self._pass_on(state)
        self._write()

    def _failed(self, failure: Failure) -> None:
        self._writing = False
        self._log.failure(
            "Sharing the state of the guard failed because of a bug in hbtd.", failure
        )

    def _changed(self, *_: object) -> None:
        """Take over what the store has, which this or another replica has written."""
        state = decode(self._store.settings.texts(KIND).get(NAME))
        if self._leading:
            # What somebody who has led before writes late is replaced.
            self.stale = self.stale or state.number < self.state.number
            self._pass_on(state)
            return
        age = 0.0 if self._begun else max(self._wall() - state.at, 0.0)
        self._note(state, age)
        self._pass_on(state)

    def _pass_on(self, state: SharedState) -> None:
        if not self._begun:
            return
        for statement in state.statements:
            if statement.number > self._told:
                self._told = statement.number
                for listener in self._listeners:
                    listener(statement)
