"""One set of parameters for all replicas."""

from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hbtd.config.params import PARAMETERS, LiveParams, Params
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable
from hbtd.etcd.messages import Compare, Put
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_format import PARAMS, read_params


class SharedParams:
    """Writes changes of our parameters to etcd, and adopts those that others have written.

    A change counts here at once. It is written on top of what others have changed meanwhile: of
    two changes of one parameter the last one to be written counts, everywhere. Should etcd lose its
    data, each replica writes again what was changed through it and still counts.
    """

    _log = Logger()

    def __init__(self, client: EtcdClient, store: EtcdStore, params: LiveParams) -> None:
        self._client = client
        self._store = store
        self._params = params
        # What has been changed here and is not in etcd, as texts under the names on the wire.
        self._unwritten: dict[str, str] = {}
        # What has been changed here and not elsewhere since.
        self._ours: dict[str, str] = {}
        # Whether etcd is to have the others as well, unless somebody else has written them.
        self._restoring = False
        self._stored: dict[str, Any] = {}  # what is in etcd, as far as it can be read
        self._revision = 0
        self._adopting = False
        self._writing = False
        params.on_change(self._changed)

    def start_over(self) -> None:
        """Know of none in etcd, as before `saw` has told."""
        self._revision = 0

    def publish(self) -> None:
        """Have all our parameters be everybody's."""
        rendered = self._params.current.rendered()
        self._unwritten = {p.wire: rendered[p.wire] for p in PARAMETERS if not p.fixed}

    def restore(self) -> None:
        """Have an etcd that lost its data know them again.

        What was changed elsewhere may have been lost before it reached us: it prevails over ours.
        """
        self._unwritten.update(self._ours)
        self._restoring = True

    def saw(self, value: bytes | None, revision: int) -> None:
        """Take up what is in etcd; `None`: nothing."""
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
        """Write what etcd does not have, now that it can be had."""
        if (self._unwritten or self._restoring) and not self._writing:
            self._writing = True
            Deferred.fromCoroutine(self._write()).addErrback(
                lambda failure: self._log.failure("Sharing parameters failed.", failure)
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
                        self.saw(found.value, found.mod_revision)
                    continue
                overtaken = result.revision < self._revision
                self._revision = max(result.revision, self._revision)
                self._restoring = False
                for wire, text in written.items():
                    if self._unwritten.get(wire) == text:
                        del self._unwritten[wire]
                if overtaken:
                    # What another has written on top of ours has come first.
                    self._adopt({**self._stored, **self._unwritten})
        except (EtcdUnavailable, EtcdRefused) as error:
            self._log.debug("Parameters can't be shared now: {error}", error=str(error))
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
