"""Applies blocks, in which other replicas report heartbeats, to this replica."""

from hbtd.replicas.remote_changes import RemoteChanges
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_blocks import Block, read_block
from hbtd.store.etcd_format import StoredRecord


class BlockReader:
    """Applies blocks, and the records that are in one transaction with a block.

    A block is one value in etcd with the ages of many heartbeats. In a transaction with records,
    the block comes first, and says which of the records are new heartbeats. The other records add
    the status and timestamp to heartbeats of earlier blocks.
    """

    def __init__(self, store: EtcdStore, changes: RemoteChanges) -> None:
        self._store = store
        self._changes = changes
        self._block = Block({}, {})
        self.revision = 0
        """The revision of etcd at which the last block was written; 0 before the first block."""

    def apply(self, key: bytes, value: bytes | None, revision: int, source: str) -> None:
        """Apply a block, `value`, that a replica wrote under `key` at `revision`.

        `value` is `None` if the key was deleted, because its replica is gone; then do nothing.
        `source` names the replica (`source_of`).
        """
        if value is None:
            return  # the replica is gone
        block = self._store.mirror.read(read_block, key, value)
        if block is None:
            return
        self._block, self.revision = block, revision
        self._store.blocks.note_heard_elsewhere(block.heard)
        self._changes.apply_heard(block.heard, source)
        self._changes.apply_starting(block.starting, source)

    def apply_record(self, key: bytes, value: bytes, source: str) -> StoredRecord | None:
        """Apply a record that was written in one transaction with the block applied last.

        `source` names the replica that wrote both (`source_of`). Return the record, or `None` if
        the value is invalid.
        """
        stored = self._store.mirror.read_record(key, value)
        if stored is None:
            return None
        record = stored.record
        age = self._block.recorded.get(record.component)
        if record.warned:
            self._store.blocks.note_change(record.component)
            self._changes.apply_warning(record)
            return stored
        self._store.blocks.note_records([record.component])
        if age is not None:
            self._changes.apply_recorded(record, age, source)
        else:
            self._changes.apply_sent(record, source)
        return stored
