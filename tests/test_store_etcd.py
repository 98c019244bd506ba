"""The store on etcd does what every store must do, and what replicas need of it."""

from hbtd.etcd.client import EtcdClient
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_format import LOCK
from tests.etcd_running import EtcdTestCase
from tests.store_contract import StoreContract
from tests.store_records_contract import RecordsContract

WALL = 1_790_000_000.0


class LeadersStore(EtcdStore):
    """A store that leads from when it is open."""

    def __init__(self, client: EtcdClient) -> None:
        super().__init__(client, lambda: WALL)
        self.lead(LOCK)


class EtcdStoreTests(StoreContract, RecordsContract, EtcdTestCase):
    """The contract, for the store of several replicas, in the hands of the one that leads."""

    grain = 1.0

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Have somebody hold the lock."""
        await super().setUp()
        await self.client.put(LOCK, b"")

    def make_store(self) -> EtcdStore:
        """Make a store on the one etcd."""
        return LeadersStore(self.client)
