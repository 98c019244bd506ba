"""The REST API in memory, with components to ask about."""

from typing import Any

from tests.support.http_memory import HEARTBEAT, APITestCase

CHASSIS = [f"x1000c7s{slot}b0n{node}" for slot in range(8) for node in range(2)]


class ComponentsTestCase(APITestCase):
    """Has a chassis and a cabinet with one node, all healthy."""

    def setUp(self):
        super().setUp()
        for number, name in enumerate(CHASSIS):
            self.beat(name, Hostname=f"nid{number:06}", NID=str(number))
        self.beat("x1001c0s10b0n0", Hostname="Login-1", NID="900")
        self.beat("x1001c0s9b0n0", Hostname="login-2", NID="901")

    def beat(self, name: str, **fields: str) -> None:
        """Send a heartbeat."""
        heartbeat = {**HEARTBEAT, "Component": name, **fields}
        self.assertEqual(self.request("POST", "/v1/heartbeat", heartbeat).status, 200)

    def get(self, path: str) -> Any:
        """Return an answer, which has to be JSON in printable ASCII."""
        response = self.request("GET", "/hmi/v1" + path)
        self.assertEqual(response.status, 200, response.body)
        text = response.body.decode("ascii")
        self.assertTrue(text.isprintable())
        return response.json()

    def names(self, query: str) -> list[str]:
        """Return the components of a page."""
        return [each["XName"] for each in self.get(f"/components?{query}")["Components"]]

    def refused(self, path: str) -> str:
        """Return why a query is refused."""
        response = self.request("GET", "/hmi/v1" + path)
        self.assertEqual(response.status, 400, response.body)
        self.assertTrue(response.json()["detail"].isprintable())
        return str(response.json()["detail"])
