"""Writes settings that many callers ask for in few calls of the store."""

from collections.abc import Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from hbtd.store.interface import IStore
from hbtd.store.settings import Setting

_MOST: Final = 500
"""The most settings in one call: commits of judgements have to wait for it."""


class GatheredWrites:
    """Writes settings, in one call of the store all those that came during the call before.

    Ten thousand nodes that shut down at once would otherwise make as many transactions.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store
        self._waiting: list[tuple[Setting, Deferred[None]]] = []
        self._writing = False

    def write(self, setting: Setting) -> Deferred[None]:
        """Write a setting; see `IStore.write_settings` for what the Deferred means.

        If the Deferred is cancelled, the setting is written nevertheless.
        """
        done: Deferred[None] = Deferred()
        self._waiting.append((setting, done))
        if not self._writing:
            self._write()
        return done

    def _write(self) -> None:
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        self._writing = bool(batch)
        if batch:
            written = self._store.write_settings([setting for setting, _ in batch])
            written.addCallbacks(
                self._written, self._failed, callbackArgs=(batch,), errbackArgs=(batch,)
            )

    def _written(self, _: object, batch: Sequence[tuple[Setting, Deferred[None]]]) -> None:
        self._write()
        for _, done in batch:
            done.callback(None)

    def _failed(self, failure: Failure, batch: Sequence[tuple[Setting, Deferred[None]]]) -> None:
        self._write()
        for _, done in batch:
            done.errback(failure)
