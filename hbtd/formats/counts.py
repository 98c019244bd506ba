"""Numbers together with their nouns, such as "2 nodes", for log lines."""


def counted(count: int, one: str, many: str = "") -> str:
    """Return `count` and the noun for it, such as "1 node" or "2 nodes".

    The noun is `one` if `count` is 1, otherwise `many`, which is `one` with an s by default.
    """
    return f"{count} {one if count == 1 else many or one + 's'}"
