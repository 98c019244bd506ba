"""The progress of this replica in following the changes in etcd."""

from enum import Enum, auto


class State(Enum):
    """The progress of a replica: it has to read all keys, is catching up, or is synchronized."""

    LOADING = auto()
    """All keys have to be read."""
    CATCHING_UP = auto()
    """All keys were read, but the watch may not have reported all changes since then."""
    SYNCHRONIZED = auto()
    """Changes are applied up to this replica's first write since the watch began, or beyond."""


class Position:
    """The revision of etcd up to which this replica has applied changes, and its `State`.

    The owner calls `loaded`, `watching`, `wrote` and `applied` as the replica makes progress. The
    replica is synchronized once the watch has reported a write that the replica made after the
    watch began. `unload` and `fall_behind` set the state back.
    """

    def __init__(self) -> None:
        """Begin in the state `LOADING`: all keys have to be read."""
        self.state = State.LOADING
        """Whether this replica has to read all keys, is catching up, or is synchronized."""
        self.revision = 0
        """The revision of etcd up to which changes are applied; 0 while all keys must be read."""
        self.was_synchronized = False
        """Whether this replica has ever been synchronized."""
        self._newest = 0
        self._barrier: int | None = None

    @property
    def synchronized(self) -> bool:
        """Whether this replica is synchronized: the state is `SYNCHRONIZED`."""
        return self.state is State.SYNCHRONIZED

    @property
    def has_barrier(self) -> bool:
        """Whether there is a barrier: this replica's first write to etcd since the watch began."""
        return self._barrier is not None

    def unload(self) -> None:
        """Set the state to `LOADING`, since this replica's data and etcd's differ."""
        self.state = State.LOADING
        self.revision = 0

    def lost(self, revision: int) -> bool:
        """Return whether etcd, which is at `revision` now, was at a later revision before.

        If so, etcd has lost data that this replica has seen.

        The result is false if this replica has never been synchronized.
        """
        return self.was_synchronized and revision < self._newest

    def loaded(self, revision: int) -> None:
        """Set the state to `CATCHING_UP`, after all keys were read as they were at `revision`."""
        self.revision = self._newest = revision
        self.state = State.CATCHING_UP

    def watching(self) -> None:
        """Record that a watch begins after the revision that this replica has reached.

        The replica is synchronized once the watch has reported a write that the replica makes from
        now on.
        """
        self._barrier = None
        self.state = State.CATCHING_UP

    def wrote(self, revision: int) -> bool:
        """Record that a write of this replica to etcd has been given the revision `revision`.

        Return whether the replica has become synchronized now, because the watch has reported the
        write already.
        """
        if self._barrier is None:
            self._barrier = revision
        return self._becomes_synchronized()

    def applied(self, revision: int) -> bool:
        """Record that all changes up to `revision` are applied.

        Return whether this replica has become synchronized now.
        """
        self.revision = self._newest = revision
        return self._becomes_synchronized()

    def fall_behind(self) -> bool:
        """Record that the watch has ended, so that this replica is not synchronized any more.

        Return whether this replica was synchronized until now.
        """
        was = self.state is State.SYNCHRONIZED
        if was:
            self.state = State.CATCHING_UP
        return was

    def _becomes_synchronized(self) -> bool:
        if self.state is not State.CATCHING_UP or self._barrier is None:
            return False
        if self._barrier > self.revision:
            return False
        self.state = State.SYNCHRONIZED
        self.was_synchronized = True
        return True
