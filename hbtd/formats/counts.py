"""Numbers of things, in the words of a log line."""


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number and what it counts: `one` if that is 1, else `many`, by default with an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"
