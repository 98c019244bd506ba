"""Watches of a real etcd."""

from tests.support.etcd_running import EtcdTestCase, WatchTestCase
from tests.support.etcd_watch_contract import WatchContract


class EventTests(WatchContract, WatchTestCase, EtcdTestCase):
    """A watch reports changes."""
