"""The lightest service there is: answers every request with 200 and keeps connections.

    python -I -S server.py PORT

One thread on epoll, without asyncio, so that over a hundred of them fit beside Phoenix on two cores: what
is to be measured is Phoenix.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


def serve(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                peer, _ = listener.accept()
                peers[peer.fileno()] = peer
                poll.register(peer, select.EPOLLIN)
                continue
            said = b""
            with contextlib.suppress(OSError):
                said = peers[number].recv(65536)
                peers[number].sendall(ANSWER * said.count(b"\r\n\r\n"))
            if not said:
                peers.pop(number).close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    serve(int(sys.argv[1]))
