"""What hbtd says of itself in `/metrics`."""

import re

from tests.support.running import WebClient, reactor


async def numbers(client: WebClient, url: str) -> dict[str, float]:
    """Return hbtd's own metrics by name."""
    response = await client.treq.get(f"{url}/metrics", timeout=20, reactor=reactor)
    text = (await response.content()).decode()
    return {name: float(value) for name, value in re.findall(r"^hbtd_(\S+) (\S+)$", text, re.M)}
