"""Runs hbtd where no nameserver, or only the second one, answers; a program for a test.

To be run as root of network and mount namespaces of its own: `unshare --map-root-user --net --mount
python -m tests.support.silent_names ANSWERS SAID OPTION...`. With ANSWERS `second` a second
nameserver knows every name, as 127.0.0.1. hbtd is started with the options, is sent a heartbeat
once it serves, and SIGTERM once its log has SAID. The exit status is that of hbtd; its log goes to
standard output.
"""

import ctypes
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import urllib.request
from threading import Thread

_SIOCSIFFLAGS = 0x8914
_UP = 0x1 | 0x40
_MS_BIND = 4096


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP))


def _configure(content: str) -> None:
    """Put this content in place of /etc/resolv.conf, in this namespace."""
    with tempfile.NamedTemporaryFile("w", delete=False) as file:
        file.write(content)
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.path.realpath("/etc/resolv.conf")
    if libc.mount(file.name.encode(), target.encode(), None, _MS_BIND, None):
        raise OSError(ctypes.get_errno(), "mount")
    os.unlink(file.name)


def _nameserver(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, 53))
    return made


def _serve(server: socket.socket) -> None:
    """Answer every question for an IPv4 address, and say that there are none of IPv6."""
    while True:
        query, client = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        asks_ipv4 = query[end - 4 : end - 2] == b"\0\1"
        record = struct.pack(">HHHIH4B", 0xC00C, 1, 1, 0, 4, 127, 0, 0, 1) if asks_ipv4 else b""
        head = query[:2] + struct.pack(">5H", 0x8180, 1, int(asks_ipv4), 0, 0)
        server.sendto(head + query[12:end] + record, client)


def _beat(url: str) -> None:
    body = b'{"Component":"x0c0s0b0n0","Hostname":"n","NID":"1","Status":"OK","Timestamp":"t"}'
    with urllib.request.urlopen(f"{url}/hmi/v1/heartbeat", body, timeout=10) as answer:
        answer.read()


def main(answers: str, said: str, *options: str) -> int:
    """Run hbtd as the module's description says; return its exit status."""
    _loopback_up()
    _configure("nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions timeout:4 attempts:5\n")
    servers = [_nameserver("127.0.0.1"), _nameserver("127.0.0.2")]
    if answers == "second":
        Thread(target=_serve, args=servers[1:], daemon=True).start()
    command = [sys.executable, "-m", "hbtd", "--tls=no", "--port=28500", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as hbtd:
        assert hbtd.stderr is not None
        stopped = False
        for line in hbtd.stderr:
            print(line, end="", flush=True)
            if " serves http" in line:
                _beat("http://127.0.0.1:28500")
            if not stopped and re.search(said, line):
                stopped = True
                hbtd.send_signal(signal.SIGTERM)
        return hbtd.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
