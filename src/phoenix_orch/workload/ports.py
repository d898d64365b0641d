"""Ports for instances: each belongs to one live instance, and comes back into use as late as possible."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from phoenix_orch.kernel.errors import Invalid, Retryable


@dataclass(frozen=True, slots=True)
class PortRange:
    """TCP ports `first` to `last`, both included.

    The default lies below the ports that Linux and the BSDs give to outgoing connections.
    """

    first: int = 20000
    last: int = 29999

    def __post_init__(self) -> None:
        if not 1024 <= self.first <= self.last <= 65535:
            raise Invalid(
                f"{self.first}-{self.last} is not a range of ports", remedy="choose within 1024-65535"
            )

    def __len__(self) -> int:
        return self.last - self.first + 1


class Ports:
    """Gives ports out in turn, so that a late request for a gone instance reaches nobody else."""

    def __init__(self, within: PortRange, start: int = 0) -> None:
        """`start`: any number; two Phoenixes with different ones seldom try the same port."""
        self._range = within
        self._next = start % len(within)
        self._taken: set[int] = set()

    def keep(self, port: int) -> None:
        """Say that `port` belongs to an instance already."""
        self._taken.add(port)

    def give_back(self, port: int) -> None:
        self._taken.discard(port)

    def take(self) -> int:
        """A port that no instance has and no program listens on. Raises Retryable when none is left."""
        for _ in range(len(self._range)):
            port = self._range.first + self._next
            self._next = (self._next + 1) % len(self._range)
            if port not in self._taken and is_free(port):
                self._taken.add(port)
                return port
        raise Retryable(
            f"no port from {self._range.first} to {self._range.last} is free",
            remedy="end what listens there, or give Phoenix a wider range",
        )


def is_free(port: int) -> bool:
    """Nobody listens on it on any address of this machine. Connections that linger do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
