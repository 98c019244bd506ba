"""Parameters that have the same values on all replicas."""

from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.config.params import PARAMETERS, Params
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable
from hbtd.etcd.messages import Compare, Put
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_format import PARAMS, read_params


class SharedParams:
    """Writes changes of the parameters to etcd, and adopts the changes that other replicas write.

    A change that is made through this replica takes effect here at once, and is then written to
    etcd. Of two changes of one parameter, the one that is written last takes effect on all
    replicas. If etcd loses its data, each replica writes again the changes that were made through
    it and are still in effect.
    """

    _log = Logger()

    def __init__(self, client: EtcdClient, store: EtcdStore, params: LiveParams) -> None:
        self._client = client
        self._store = store
        self._params = params
        # Changes made here that are not in etcd yet: values as text, by the names on the wire.
        self._unwritten: dict[str, str] = {}
        # Changes made here that no other replica has replaced since.
        self._ours: dict[str, str] = {}
        # Whether all other parameters have to be written, too, unless another replica has done so.
        self._restoring = False
        self._stored: dict[str, Any] = {}  # the valid parameters in etcd
        self._revision = 0
        self._adopting = False
        self._writing = False
        params.on_change(self._changed)

    def reset(self) -> None:
        """Forget the last seen revision of the parameters, so that `apply` adopts any revision."""
        self._revision = 0

    def publish_all(self) -> None:
        """Mark this replica's values of all changeable parameters, so that `write` writes them.

        Called when etcd has been read at the start, if no other replica lives or etcd has no
        parameters.
        """
        rendered = self._params.current.rendered()
        self._unwritten = {p.wire: rendered[p.wire] for p in PARAMETERS if not p.fixed}

    def restore(self) -> None:
        """Mark all parameters, so that `write` writes them to etcd, which has lost its data.

        If another replica writes its parameters first, this replica adopts them, since they may
        include changes that had not arrived here. Then `write` writes only the changes that were
        made through this replica and are still in effect.
        """
        self._unwritten.update(self._ours)
        self._restoring = True

    def apply(self, value: bytes | None, revision: int) -> None:
        """Adopt the parameters in etcd if `revision` is later than their last seen revision.

        `value` is the value of the parameters' key in etcd, or `None` if etcd has no such key.
        """
        if revision <= self._revision:
            return
        self._revision = revision if value is not None else 0
        read = self._store.mirror.read
        stored = read(lambda _, value: read_params(value), PARAMS, value or b"{}")
        if stored is not None:
            self._restoring = self._restoring and value is None
            self._stored = stored
            self._adopt({**stored, **self._unwritten})

    def write(self) -> None:
        """Start to write to etcd the changed parameters that are not there yet.

        If etcd fails, the next call of this method tries again.
        """
        if (self._unwritten or self._restoring) and not self._writing:
            self._writing = True
            Deferred.fromCoroutine(self._write()).addErrback(
                lambda failure: self._log.failure(
                    "Parameters could not be shared with the other replicas because of a bug in"
                    " hbtd; this replica tries again.",
                    failure,
                )
            )

    async def _write(self) -> None:
        try:
            while self._unwritten or self._restoring:
                written = dict(self._unwritten)
                value = orjson.dumps(self._params.current.rendered())
                compare = Compare.mod_revision(PARAMS, self._revision)
                result = await self._client.txn([compare], [Put(PARAMS, value)])
                if not result.succeeded:
                    found = await self._client.get(PARAMS)
                    self._revision = 0
                    if found is not None:
                        self.apply(found.value, found.mod_revision)
                    continue
                overtaken = result.revision < self._revision
                self._revision = max(result.revision, self._revision)
                self._restoring = False
                for wire, text in written.items():
                    if self._unwritten.get(wire) == text:
                        del self._unwritten[wire]
                if overtaken:
                    # A later change by another replica has arrived before the answer to this one.
                    self._adopt({**self._stored, **self._unwritten})
        except (EtcdUnavailable, EtcdRefused) as error:
            self._log.debug(
                "Parameters can't be shared with the other replicas now; trying again: {error}",
                error=str(error),
            )
        finally:
            self._writing = False

    def _adopt(self, values: dict[str, Any]) -> None:
        self._adopting = True
        try:
            self._params.adopt(values)
        finally:
            self._adopting = False

    def _changed(self, old: Params, new: Params) -> None:
        before = old.rendered()
        changes = {w: text for w, text in new.rendered().items() if text != before[w]}
        if self._adopting:
            for wire in changes:
                self._ours.pop(wire, None)
            return
        self._ours.update(changes)
        self._unwritten.update(changes)
        self.write()
