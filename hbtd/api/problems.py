"""The prefixes of the API's routes, and the `instance` of problem documents."""

from hbtd.formats.xnames import normalise

PREFIXES = ("/hmi/v1", "/v1")
"""The prefixes below which every route of the API exists; `instance` uses the first."""


def instance(path: str) -> str:
    """Return the `instance` of a problem (docs/protocol.md, "Errors") for a requested path.

    The result begins with the first of `PREFIXES`, even if `path` begins with the second. The
    name of a component is left out, except after `hbstate`, where it is kept in normal form. A path
    without a prefix is returned unchanged.
    """
    for prefix in PREFIXES:
        if path.startswith(prefix + "/"):
            route, _, name = path[len(prefix) + 1 :].partition("/")
            name = f"/{normalise(name)}" if route == "hbstate" and name else ""
            return f"{PREFIXES[0]}/{route}{name}"
    return path
