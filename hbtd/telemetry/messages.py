"""The messages on Kafka (docs/protocol.md, "Kafka")."""

import orjson

from hbtd.tracker.transitions import Judgement


def key(judgement: Judgement) -> bytes:
    """Return a message's key: the xname, so that a component's messages stay in order."""
    return judgement.component.encode("ascii")


def value(judgement: Judgement) -> bytes:
    """Return a message's value: UTF-8 JSON."""
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
