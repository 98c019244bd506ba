"""The keys of etcd in which settings are kept; `hbtd.store.settings` says what settings are."""

from collections.abc import Iterable, Iterator
from typing import Final

from hbtd.etcd.messages import Delete, KeyValue, Put
from hbtd.store.etcd_steps import Step
from hbtd.store.settings import Setting

SETTING: Final = b"hbtd/setting/"
"""The prefix of the key of a setting; its kind, a slash and its name follow."""


def read_setting(key: bytes, value: bytes | None) -> Setting:
    """Return the setting of a key that begins with `SETTING`; `value` is `None` if it is gone."""
    kind, _, name = key[len(SETTING) :].decode("utf-8", "replace").partition("/")
    return Setting(kind, name, None if value is None else value.decode("utf-8", "replace"))


def settings_in(items: Iterable[KeyValue]) -> Iterator[tuple[Setting, int]]:
    """Yield the settings among keys of etcd, each with the revision of its last change."""
    for item in items:
        if item.key.startswith(SETTING):
            yield read_setting(item.key, item.value), item.mod_revision


def setting_key(setting: Setting) -> bytes:
    """Return the key of a setting."""
    return SETTING + f"{setting.kind}/{setting.name}".encode()


def setting_step(setting: Setting) -> Step:
    """Return the step that writes or removes a setting."""
    key, text = setting_key(setting), setting.text
    return Step([Delete(key) if text is None else Put(key, text.encode())])
