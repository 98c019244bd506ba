"""The store `mem:`."""

from twisted.trial.unittest import TestCase

from hbtd.store.memory import MemoryStore
from tests.support.store_contract import StoreContract
from tests.support.store_identities_contract import IdentitiesContract
from tests.support.store_log_contract import LogContract
from tests.support.store_notes_contract import NotesContract
from tests.support.store_past_contract import PastContract
from tests.support.store_records_contract import RecordsContract
from tests.support.store_settings_contract import SettingsContract
from tests.support.store_silences_contract import SilencesContract


class MemoryStoreTests(
    StoreContract,
    RecordsContract,
    LogContract,
    PastContract,
    IdentitiesContract,
    NotesContract,
    SilencesContract,
    SettingsContract,
    TestCase,
):
    """The contract, for the store that lives as long as the process."""

    def setUp(self):
        self.store = MemoryStore(self.judge)

    def make_store(self) -> MemoryStore:
        """Return the one store that holds this test's data."""
        return self.store
