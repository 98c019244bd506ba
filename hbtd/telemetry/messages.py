"""The messages that hbtd sends to Kafka (docs/protocol.md, "Kafka")."""

import orjson

from hbtd.tracker.transitions import Judgement


def key(judgement: Judgement) -> bytes:
    """Return the key of a judgement's message: the xname of the component.

    Kafka keeps messages with the same key in order.
    """
    return judgement.component.encode("ascii")


def value(judgement: Judgement) -> bytes:
    """Return the value of a judgement's message: a JSON object, in UTF-8."""
    transition = judgement.transition
    return orjson.dumps(
        {
            "MessageID": "Heartbeat Change Notification",
            "ID": judgement.component,
            "NewState": transition.state,
            "NewFlag": transition.flag,
            "LastHBTimeStamp": judgement.timestamp,
            "Info": transition.info,
        }
    )
