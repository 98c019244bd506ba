"""Where the API's routes live, and how its problem documents name them."""

from hbtd.formats.xnames import normalise

PREFIXES = ("/hmi/v1", "/v1")
"""Every path exists under both; problems name the first."""


def instance(path: str) -> str:
    """Give a problem's `instance` for a request whose path is one of our routes.

    It names the route, always under the first prefix and without the name of a component, except
    for `hbstate` (docs/protocol.md, "Errors").
    """
    for prefix in PREFIXES:
        if path.startswith(prefix + "/"):
            route, _, name = path[len(prefix) + 1 :].partition("/")
            name = f"/{normalise(name)}" if route == "hbstate" and name else ""
            return f"{PREFIXES[0]}/{route}{name}"
    return path
