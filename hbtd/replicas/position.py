"""How far this replica has followed the changes in etcd."""

from enum import Enum, auto


class State(Enum):
    """Whether this replica has all changes in etcd, is catching up, or has to read all keys."""

    LOADING = auto()
    """All keys have to be read."""
    CATCHING_UP = auto()
    """Changes are applied as the watch reports them, but earlier ones may be missing."""
    SYNCHRONIZED = auto()
    """All that was written before this replica's first write since the watch began is applied."""


class Position:
    """The revision of etcd up to which this replica has applied changes, and its `State`.

    `loaded`, `watching`, `wrote` and `applied` bring the state forward: a replica is synchronized
    once the watch has reported a write that the replica made after the watch began. `unload` and
    `fall_behind` set the state back.
    """

    def __init__(self) -> None:
        """Begin in the state `LOADING`: all keys have to be read."""
        self.state = State.LOADING
        """Whether this replica has all changes in etcd."""
        self.revision = 0
        """The revision up to which changes are applied; 0 while all keys have to be read."""
        self.was_synchronized = False
        """Whether this replica has ever been synchronized."""
        self._newest = 0
        self._barrier: int | None = None

    @property
    def synchronized(self) -> bool:
        """Whether all that was in etcd when this replica began to watch it has been applied."""
        return self.state is State.SYNCHRONIZED

    @property
    def has_barrier(self) -> bool:
        """Whether this replica has written since the watch began."""
        return self._barrier is not None

    def unload(self) -> None:
        """Note that this replica's data differs from etcd's, so that all keys have to be read."""
        self.state = State.LOADING
        self.revision = 0

    def lost(self, revision: int) -> bool:
        """Return whether an etcd at `revision` has lost data that this replica has seen."""
        return self.was_synchronized and revision < self._newest

    def loaded(self, revision: int) -> None:
        """Note that all keys were read, as of `revision`."""
        self.revision = self._newest = revision
        self.state = State.CATCHING_UP

    def watching(self) -> None:
        """Note that a watch begins after the revision that this replica has reached.

        The replica is synchronized once the watch has reported a write made from now on.
        """
        self._barrier = None
        self.state = State.CATCHING_UP

    def wrote(self, revision: int) -> bool:
        """Note a write of this replica; return whether that has made the replica synchronized."""
        if self._barrier is None:
            self._barrier = revision
        return self._becomes_synchronized()

    def applied(self, revision: int) -> bool:
        """Note that all changes up to `revision` are applied.

        Return whether this replica has become synchronized by that.
        """
        self.revision = self._newest = revision
        return self._becomes_synchronized()

    def fall_behind(self) -> bool:
        """Note that the watch has ended; return whether this replica was synchronized before."""
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
