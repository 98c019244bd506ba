"""Reads and writes notes in etcd: texts that parts of hbtd keep across restarts.

Each note has a key of its own. `IStore.notes` says more about notes.
"""

from collections.abc import Mapping
from typing import Final

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.messages import Delete, Put
from hbtd.store.etcd_identities import InTurn
from hbtd.store.etcd_steps import Step
from hbtd.store.etcd_writer import EtcdWriter

NOTE: Final = b"hbtd/note/"
"""The prefix of the key of a note; its kind, a slash and its name follow."""


class EtcdNotes:
    """Reads and writes notes in etcd (see `IStore.notes`).

    Only the leader writes notes, in fenced transactions.
    """

    def __init__(self, client: EtcdClient, writer: EtcdWriter, in_turn: InTurn) -> None:
        """Make the object that reads and writes notes.

        `in_turn` runs a coroutine function after all earlier calls of the store.
        """
        self._client = client
        self._writer = writer
        self._in_turn = in_turn

    async def read(self, kind: str) -> dict[str, str]:
        """Return the texts of all notes of a kind, by the notes' names.

        Raise the exceptions of `EtcdClient` if etcd fails.
        """

        async def work() -> dict[str, str]:
            prefix = _key(kind, "")
            found: dict[str, str] = {}
            async for page in self._client.pages(prefix, prefix[:-1] + b"0"):
                for item in page.items:
                    name = item.key[len(prefix) :].decode("utf-8", "replace")
                    found[name] = item.value.decode("utf-8", "replace")
            return found

        return await self._in_turn(work)

    async def write(self, kind: str, notes: Mapping[str, str | None]) -> None:
        """Write notes of a kind; delete the notes whose text is `None`.

        `notes` has the texts of the notes by the notes' names; notes with other names stay as they
        are. Raise `NotLeading` if this replica does not lead, and the exceptions of `EtcdClient` if
        etcd fails.
        """
        steps = [
            Step([Delete(key) if text is None else Put(key, text.encode())])
            for key, text in ((_key(kind, name), text) for name, text in notes.items())
        ]

        async def work() -> None:
            await self._writer.write(steps, fenced=True)

        await self._in_turn(work)


def _key(kind: str, name: str) -> bytes:
    return NOTE + f"{kind}/{name}".encode()
