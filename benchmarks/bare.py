"""A bare epoll loop that reads, and writes a fixed answer: `python -m benchmarks.bare [CERT KEY]`.

It does nothing else, so its rate is the most that hbtd can reach in Python. With a certificate it
serves over TLS: pyOpenSSL on the socket, set up as in hbtd. It prints its URL, and serves until it
is terminated.
"""

import socket
import sys
from select import EPOLLIN, epoll
from typing import Any

from OpenSSL import SSL

from hbtd.net.tls import load_identity, server_context

_ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: hbtd\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\n"
    b"Content-Length: 0\r\n\r\n"
)


def serve(cert: str = "", key: str = "") -> None:
    """Serve on any free port of the loopback interface."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    context = server_context(load_identity(cert, key)) if cert else None
    scheme = "http" if context is None else "https"
    print(f"serves {scheme}://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    poller, clients = epoll(), dict[int, Any]()
    poller.register(listener, EPOLLIN)
    while True:
        for number, _ in poller.poll():
            if number == listener.fileno():
                client, _ = listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                poller.register(client, EPOLLIN)
                clients[client.fileno()] = client
                if context is not None:
                    tls = clients[client.fileno()] = SSL.Connection(context, client)
                    tls.set_accept_state()
                continue
            client = clients[number]
            try:
                if client.recv(8192):
                    client.send(_ANSWER)
                    continue
            except SSL.WantReadError:
                continue
            except (OSError, SSL.Error):
                pass
            poller.unregister(number)
            clients.pop(number).close()


if __name__ == "__main__":
    serve(*sys.argv[1:])
