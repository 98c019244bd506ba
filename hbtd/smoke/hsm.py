"""The client with which hbtd-smoke reads the states of components from HSM."""

from urllib.parse import quote, urlsplit

from hbtd.ctl.client import Client, Settings
from hbtd.ctl.escaping import shown
from hbtd.ctl.failures import Misused
from hbtd.smoke.checking import Wrong

_PORTS = {"http": 80, "https": 443}
_ANY = tuple(status for status in range(300, 600))


class HSM:
    """A client of the Hardware State Manager (HSM) that only reads the states of components."""

    def __init__(self, settings: Settings) -> None:
        """Make a client of HSM.

        Raise `Misused` if HSM's URL, or a file that `settings` names, can't be used.
        """
        parts = urlsplit(settings.url)
        if parts.scheme not in _PORTS or not parts.hostname or not parts.path.strip("/"):
            raise Misused(
                f"--hsm-url {shown(settings.url)} can't be used: give HSM's base URL, as hbtd has"
                " it in --sm_url"
            )
        if parts.port is None:
            parts = parts._replace(netloc=f"{parts.netloc}:{_PORTS[parts.scheme]}")
        self._client = Client(settings._replace(url=parts.geturl()))

    def state(self, xname: str) -> tuple[str, str] | None:
        """Return the state and the flag of a component; `None` if HSM does not know it.

        Raise `Wrong` if the status of HSM's answer is neither 200 nor 404, and
        `hbtd.ctl.failures.Failure` if HSM can't be reached.
        """
        path = f"/State/Components/{quote(xname, safe='')}"
        answer = self._client.call("GET", path, expected=_ANY)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise Wrong(f"HSM answers {answer.status} to {path}")
        found = answer.json()
        return str(found["State"]), str(found.get("Flag", ""))

    def close(self) -> None:
        """Close the connection to HSM."""
        self._client.close()
