"""Applies to this replica's tracker the heartbeats, judgements and requests of other replicas."""

from collections.abc import Callable, Collection, Iterable, Mapping

from hbtd.config.live_params import LiveParams
from hbtd.hsm.notifier import Notifier
from hbtd.monitor import Monitor
from hbtd.store.checkpointer import Checkpointer
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Identity, Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Phase


class RemoteChanges:
    """Applies to this replica's tracker the heartbeats, judgements and requests of other replicas.

    Other replicas don't know the heartbeats that this replica took and has yet to store; so these
    heartbeats are kept, whatever other replicas have judged. If a heartbeat that another replica
    took leads to a judgement, the judgement is committed only if this replica leads.
    """

    def __init__(
        self,
        observed: ObservedClock,
        tracker: Tracker,
        checkpointer: Checkpointer,
        notifier: Notifier,
        params: LiveParams,
        monitor: Monitor,
        log_grown: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an object that changes and queries the given parts of this replica.

        `log_grown` is called when another replica has added entries to the log of transitions.
        """
        self._observed = observed
        self._tracker = tracker
        self._checkpointer = checkpointer
        self._notifier = notifier
        self._params = params
        self._monitor = monitor
        self.log_grown = log_grown
        """A function that is called when another replica has added to the log of transitions."""

    def load(self, records: Collection[Record], dead: Collection[str]) -> None:
        """Replace the contents of the tracker, except for heartbeats that are not stored yet.

        `records` are all stored records. `dead` are the components whose stored judgement is that
        they died.
        """
        params = self._params.current
        old = self._checkpointer.old_judgements()
        judged = old.intersection((*(each.component for each in records), *dead)) if old else old
        for xname in judged:
            self._checkpointer.withdraw(xname)
        self._tracker.keep_only(self._checkpointer.news() | (old - judged))
        at = self._observed.now()
        # For as long as the last heartbeat of all is ago, no replica has heard anybody.
        ages = (record.age for record in records)
        unheard = min(ages, default=0.0) if self._tracker.spares else 0.0
        self._tracker.restore(records, dead, at, params.warntime, params.errtime, unheard)

    def merge(self, records: Collection[Record], dead: Collection[str]) -> None:
        """Combine the data of this replica with those in a store that has lost its data.

        `records` are all records that other replicas have stored since the loss. `dead` are the
        components that have died according to a judgement stored since the loss. These data may be
        newer than those of this replica, because this process may have been stopped meanwhile. So
        they replace this replica's data about the same components, except for heartbeats that are
        not stored yet. This replica's data about all other components are marked to be stored.
        """
        for xname in dead:
            self.apply_death(xname)
        new: list[Record] = []
        for record in records:
            phase = self._tracker.phase(record.component)
            if phase is Phase.UNKNOWN:
                new.append(record)
            elif record.warned:
                self.apply_warning(record)
            elif phase is not Phase.HEALTHY and not self._checkpointer.has_news(record.component):
                self._checkpointer.withdraw(record.component)
                self.apply_heartbeat(record)
        params = self._params.current
        self._tracker.restore(new, (), self._observed.now(), params.warntime, params.errtime)
        stored = {record.component for record in records}.union(dead)
        self._tracker.mark_changed(self._observed.ticked_at, stored)
        self._tracker.mark_all_renamed()

    def apply_heartbeat(self, record: Record, source: str | None = None) -> None:
        """Apply a heartbeat that another replica took.

        If the heartbeat shows that the component has started or restarted, and this replica leads,
        commit that judgement. `source` names the other replica (`source_of`); it is `None` if not
        known.
        """
        judgement = self._tracker.apply_beat(
            record.component, self._observed.now(), record.timestamp, record.status, source
        )
        self._commit_applied([judgement])

    def apply_heard(self, ages: Mapping[str, float], source: str | None) -> None:
        """Apply heartbeats that another replica took, and wrote in a block without timestamps.

        `ages` are the ages of the heartbeats, by component, in observed seconds. `source` names
        the other replica (`source_of`). Heartbeats of components that are dead or not tracked are
        ignored. If heartbeats show that components which were warned about have restarted, and
        this replica leads, commit these judgements.
        """
        at = self._observed.now()
        judgements = [
            self._tracker.apply_heard(xname, at - age, source) for xname, age in ages.items()
        ]
        self._commit_applied(judgements)

    def apply_starting(self, records: Iterable[Record], source: str) -> None:
        """Count heartbeats of dead components that another replica took, named by `source`.

        `records` are about these heartbeats. If a component has sent enough of them in time, and
        this replica leads, start the component and commit that judgement. A follower leaves that to
        the leader, or to the component's next heartbeat here.
        """
        at, leads = self._observed.now(), self._monitor.leading
        self._commit_applied(
            [
                self._tracker.apply_beat(
                    record.component, at - record.age, record.timestamp, record.status, source
                )
                for record in records
                if self._tracker.apply_starting(record, at, source, starts=leads)
            ]
        )

    def apply_recorded(self, record: Record, age: float, source: str | None) -> None:
        """Apply the heartbeat in `record`, which another replica took `age` observed seconds ago.

        `source` names the other replica (`source_of`). If the heartbeat shows that the component
        has started or restarted, and this replica leads, commit that judgement.
        """
        at = self._observed.now() - age
        sent = record.timestamp, record.status
        self._commit_applied([self._tracker.apply_heard(record.component, at, source, sent)])

    def apply_sent(self, record: Record, source: str | None) -> None:
        """Add the status and timestamp in `record` to a heartbeat that was applied without them.

        An earlier block had only the age of the heartbeat. `source` names the replica that took the
        heartbeat (`source_of`). If the component is dead or not tracked, apply the record as a new
        heartbeat instead.
        """
        if not self._tracker.apply_sent(record, source):
            self.apply_heartbeat(record, source)

    def _commit_applied(self, judgements: Iterable[Judgement | None]) -> None:
        made = [judgement for judgement in judgements if judgement is not None]
        if made and self._monitor.leading:
            self._monitor.commit(made)

    def apply_warning(self, record: Record, *, by_a_leader: bool = True) -> None:
        """Mark a component as warned about, because another process has judged so.

        Do nothing if a heartbeat of the component that this replica took is not stored yet. Also
        do nothing if this replica leads and tracks the component, and the warning is a judgement
        of an earlier leader.

        `by_a_leader` says whether the warning is a judgement of a leader. If not, the warning is
        that of an original hbtd, which tells HSM itself. Then even the leader applies the warning,
        so that the leader tells HSM when the component restarts.
        """
        known = by_a_leader and self._monitor.leading and record.component in self._tracker
        if known or self._checkpointer.has_news(record.component):
            return
        self._checkpointer.withdraw(record.component)
        params = self._params.current
        self._tracker.apply_warning(record, self._observed.now(), params.warntime, params.errtime)

    def apply_gap(self, record: Record) -> None:
        """Mark a component as warned about, and measure its silence from now on.

        An original hbtd has warned about the component after a time in which no hbtd could hear
        heartbeats. HSM and Kafka are told nothing. Do nothing if a heartbeat of the component that
        this replica took is not stored yet.
        """
        if not self._checkpointer.has_news(record.component):
            self._checkpointer.withdraw(record.component)
            self._tracker.apply_gap(record, self._observed.now())

    def apply_death(self, xname: str) -> None:
        """Mark a component as dead, because the leader has judged so.

        Do nothing if a heartbeat of the component that this replica took is not stored yet.
        """
        if not self._checkpointer.has_news(xname):
            self._checkpointer.withdraw(xname)
            self._tracker.apply_death(xname)

    def apply_told(self, xname: str, phase: Phase, at: float) -> None:
        """Record that HSM acknowledged, at the Unix time `at`, that a component is in `phase`.

        If `at` is 0, record that HSM has yet to acknowledge the phase.
        """
        self._tracker.note_told(xname, phase, at)

    def apply_removal(self, xname: str) -> None:
        """Stop tracking a component whose record was deleted.

        Do nothing if the component is dead, or if a heartbeat of the component that this replica
        took is not stored yet.
        """
        if self.is_stored(xname):
            self._tracker.forget(xname)
            self._notifier.withdraw(xname)

    def apply_burial(self, xname: str) -> None:
        """Apply the deletion of a component's record by an original hbtd that declared it dead.

        The original tells HSM only after the deletion, and may be killed before it does, or HSM
        may not answer. So a follower marks the component as warned about; the next leader judges
        the component by its silence, tells HSM, and stores the judgement. A leader stops tracking
        the component instead, because no original may judge while this replica leads. Do nothing
        if a heartbeat of the component that this replica took is not stored yet.
        """
        if self._monitor.leading:
            self.apply_removal(xname)
        elif self.is_stored(xname):
            record = self._tracker.record(xname, self._observed.now())
            assert record is not None  # as the component is living
            self._notifier.withdraw(xname)
            self.apply_warning(record, by_a_leader=False)

    def apply_forget(self, xname: str) -> None:
        """Forget a component that another replica was asked to forget.

        If this replica leads, it also deletes the component's judgement and record from the store.
        A heartbeat that this replica took and has not stored yet is dropped; if the component is
        alive, hbtd tracks it again from its next heartbeat.
        """
        if self._monitor.leading:
            self._monitor.forget(xname)
        else:
            self._monitor.stop_tracking(xname)

    def apply_identity(self, identity: Identity) -> None:
        """Store in the tracker the host name and NID that a component sent to another replica."""
        self._tracker.apply_identity(identity)

    def is_living(self, xname: str) -> bool:
        """Return whether a component is tracked, and not dead."""
        return self._tracker.record(xname, self._observed.now()) is not None

    def is_stored(self, xname: str) -> bool:
        """Return whether a component is living, and its latest heartbeat is stored.

        A heartbeat that another replica took counts as stored.
        """
        return self.is_living(xname) and not self._checkpointer.has_news(xname)

    def all_committed(self, xnames: Iterable[str]) -> list[str]:
        """Return the components in `xnames` about which there is no uncommitted judgement."""
        return [xname for xname in xnames if not self._checkpointer.has_uncommitted(xname)]
