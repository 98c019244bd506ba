"""Bulk updates of component states, as the fake HSM receives them."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from hbtd.formats import xnames
from hbtd.simulator.hsm_table import invalid_state


@dataclass(eq=False)
class Update:
    """A bulk PATCH that was received, and its outcome.

    All times are seconds of the fake HSM's clock. `read_update` reads the attributes `names`,
    `state`, `flag` and `message` from the body. An attribute that can't be read stays empty; but if
    the body has no `Flag`, `flag` is `OK`.
    """

    body: bytes
    """The request's body, undecoded."""

    received: float
    """When the request arrived, in seconds of the fake HSM's clock."""

    user_agent: str = ""
    content_type: str = ""

    names: list[str] = field(default_factory=list)
    """The components' names as the request spelled them."""

    state: str = ""
    flag: str = ""
    message: str = ""

    applied: float | None = None
    """When the update was applied to the table, in seconds of the fake HSM's clock.

    `None` if the update has not been applied.
    """

    answered: float | None = None
    """When the PATCH was answered, in seconds of the fake HSM's clock.

    `None` if there was no answer, for example because the client had disconnected.
    """

    status: int | None = None
    """The HTTP status of the answer, or `None` if `answered` is `None`."""


def read_update(update: Update) -> str | None:
    """Set an update's fields from its body; return why it is invalid, or `None` if it is valid."""
    document = json_object(update.body)
    if document is None:
        return "error decoding JSON: not an object"
    names = document.get("ComponentIDs")
    if isinstance(names, list):
        update.names = [name for name in names if isinstance(name, str)]
    state, flag = document.get("State"), document.get("Flag", "OK")
    update.state = state if isinstance(state, str) else ""
    update.flag = flag if isinstance(flag, str) else ""
    extended = document.get("ExtendedInfo", {})
    message = extended.get("Message", "") if isinstance(extended, dict) else None
    update.message = message if isinstance(message, str) else ""

    if names == []:
        return "Missing IDs"
    if not update.names or update.names != names:
        return "ComponentIDs must be a list of one or more names"
    objection = invalid_state(update.state, update.flag)
    if objection is not None:
        return objection
    if not isinstance(message, str):
        return "ExtendedInfo must be an object with texts"
    if any(xnames.parse(name) is None for name in update.names):
        return "invalid xname ID"
    return None


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body, or `None` if the body is anything else."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
