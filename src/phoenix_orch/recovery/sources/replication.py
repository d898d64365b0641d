"""The data of a Redis or Valkey server, as it gives them to a replica: one dump, streamed.

We say that we are a replica that wants the dump alone, the server forks, and its child writes the dump to
us. Nothing is written on the server's disk where it is diskless, and the user needs no right but
`+psync +replconf +ping`. What the server is we know from HELLO, which every user may ask.

    AUTH · HELLO · REPLCONF capa eof · REPLCONF rdb-only 1 · REPLCONF version X · PSYNC ? -1
    newlines while it waits · +FULLRESYNC <replid> <offset> · newlines while it forks
    $EOF:<40 bytes> dump <the same 40 bytes>      or      $<length> dump

Without `version`, Valkey 9 takes us for an old server and refuses data that old ones do not know (TTLs of
hash fields). Newlines show that a server lives that makes us wait: `repl-diskless-sync-delay` is 5 s.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from phoenix_orch.kernel.errors import PhoenixError, Retryable, Terminal
from phoenix_orch.recovery.rdb_header import LONGEST, RdbHeader, parse
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_errors import refused
from phoenix_orch.recovery.redis_wire import CONNECT_TIMEOUT, SILENCE, RedisWire, RefusedError, Reply, encoded
from phoenix_orch.recovery.sources.eof_mark import LENGTH, EofMark

CHUNK = 256 * 1024
"""Bytes asked of the socket at once."""
_FULL = re.compile(r"\+FULLRESYNC ([0-9a-f]{40}) (-?[0-9]+)")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    connect: float = CONNECT_TIMEOUT
    silence: float = SILENCE
    """Without a byte, at any point."""
    start: float = 600.0
    """From the question to the first byte of the dump, however lively the server is meanwhile."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a server says of itself to everybody who is logged in; empty where it says nothing."""

    server: str = ""
    """`valkey` or `redis`."""
    version: str = ""
    mode: str = ""
    """`standalone`, `cluster` or `sentinel`."""
    role: str = ""
    """`master` or `replica`."""
    modules: tuple[str, ...] = ()


class ReplicationStream:
    """A dump being sent. Read it to its end: what was cut off raises, `b""` is the whole end."""

    def __init__(self, wire: RedisWire, patience: Patience) -> None:
        """Ask the server, which is logged in, for a dump, and wait until it begins. Raises PhoenixError."""
        self._wire = wire
        self.address = wire.address
        self.hello = _hello(wire)
        if self.hello.mode == "sentinel":
            raise Terminal(
                f"{self.address} is a Sentinel, which has no data",
                remedy="name the address of the Redis server; `SENTINEL masters` there tells it",
            )
        alone = self._introduce()
        self.replication_id, self.offset = "", -1
        header = self._begin(time.monotonic() + patience.start)
        self._mark: EofMark | None = None
        self._left = 0
        """Bytes to come, where the server told how many."""
        if header.startswith("$EOF:"):
            self._mark = EofMark(header[5:].encode(), last=alone)
        else:
            self._left = int(header[1:])
        self.length: int | None = None if self._mark is not None else self._left
        """Bytes of the dump, where the server tells it beforehand."""
        self.received = 0
        """Bytes that came since, with what is not handed on yet."""
        self._ahead = b""
        self._ended = False
        self.header = self._read_header()

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes of the dump (-1: all that is left); `b""` at its end.

        Raises Retryable when the server closes before the end or falls silent.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if not self._ahead and size:
            self._ahead = self._more(max(size, LENGTH + 1))
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    # -- the dump ------------------------------------------------------------------------------------

    def _read_header(self) -> RdbHeader:
        header = None
        while header is None and len(self._ahead) < LONGEST:
            data = self._more(CHUNK)
            self._ahead += data
            header = parse(self._ahead)
            if not data:
                break
        if header is None:
            raise Terminal(
                f"what {self.address} sent is no dump: {self.received} bytes without a whole header",
                remedy="see the log of that server",
            )
        return header

    def _more(self, size: int) -> bytes:
        """Some bytes of the dump, not handed on yet; `b""` at its end."""
        while not self._ended:
            if self._mark is not None:
                data = self._mark.feed(self._receive(size))
                self._ended = self._mark.ended
            elif self._left == 0:
                self._ended, data = True, b""
            else:
                data = self._receive(min(size, self._left))
                self._left -= len(data)
            if data:
                return data
        return b""

    def _receive(self, size: int) -> bytes:
        try:
            data = self._wire.receive(size)
        except TimeoutError:
            raise self._cut("has sent nothing for too long,") from None
        except OSError as error:
            raise self._cut(f"broke the connection ({(error.strerror or str(error)).lower()})") from None
        if not data:
            raise self._cut("closed the connection")
        self.received += len(data)
        return data

    def _cut(self, what: str) -> Retryable:
        of = f" of {self.length:,}" if self.length is not None else ", and the dump has no end"
        return Retryable(
            f"{self.address} {what} after {self.received:,} bytes{of}",
            remedy="see its log: it may have been stopped, its child killed for want of memory, "
            "a limit may have cut us off (client-output-buffer-limit replica, repl-timeout), or the data "
            "may need a newer format than this connection was told to understand",
        )

    # -- the question --------------------------------------------------------------------------------

    def _introduce(self) -> bool:
        """Say what we are. True when the server promises to send the dump and nothing after it."""
        self._replconf("capa", "eof")
        alone = self._replconf("rdb-only", "1")
        if self.hello.server == "valkey" and self.hello.version:
            self._replconf("version", self.hello.version)
        return alone

    def _replconf(self, option: str, value: str) -> bool:
        """Tell one thing. An option that an older server does not know is no fault."""
        try:
            self._wire.ask("REPLCONF", option, value)
        except RefusedError as error:
            said = str(error)
            if "nrecognized REPLCONF option" in said:
                return False
            raise refused(self.address, f"REPLCONF {option}", said) from None
        return True

    def _begin(self, deadline: float) -> str:
        """Ask for the dump and wait for the line that announces it: `$EOF:…` or `$<length>`."""
        self._wire.send(encoded("PSYNC", "?", "-1"))
        answer = self._next_line(deadline)
        if answer.startswith("-"):
            raise self._refused(answer[1:])
        full = _FULL.fullmatch(answer)
        if full is None:
            raise Terminal(
                f"{self.address} answers PSYNC with {answer[:80]!r}, not with +FULLRESYNC",
                remedy="it is no Redis or Valkey 6.2 or newer, or a proxy stands before it",
            )
        self.replication_id, self.offset = full[1], int(full[2])
        line = self._next_line(deadline)
        if line.startswith("-"):
            raise self._refused(line[1:])
        if not re.fullmatch(rf"\$(EOF:.{{{LENGTH}}}|[0-9]{{1,18}})", line):
            raise Terminal(
                f"{self.address} announces its dump with {line[:80]!r}", remedy="see the log of that server"
            )
        return line

    def _refused(self, said: str) -> PhoenixError:
        if "BGSAVE" in said or "fork" in said.lower():
            return Retryable(
                f"{self.address} cannot make a dump: {said}",
                remedy="see its log; it may lack memory for a fork (vm.overcommit_memory = 1), or its disk "
                "may be full where repl-diskless-sync is off",
            )
        return refused(self.address, "PSYNC", said)

    def _next_line(self, deadline: float) -> str:
        while not (line := self._wire.line()):
            if time.monotonic() > deadline:
                raise Retryable(
                    f"{self.address} lives and does not begin with its dump",
                    remedy="`INFO persistence` there: another child may be saving or rewriting for long",
                )
        return line


def _hello(wire: RedisWire) -> Hello:
    """Every user may ask this, whatever its rights. A server that does not know it tells us nothing."""
    try:
        answer = wire.ask("HELLO", "2")
    except RefusedError as error:
        said = str(error)
        if said.startswith(("NOAUTH", "NOPERM", "DENIED")):
            raise refused(wire.address, "HELLO", said) from None
        return Hello()
    found = _pairs(answer)
    modules = found.get("modules")
    names = [_pairs(one).get("name", "") for one in modules] if isinstance(modules, list) else []
    return Hello(
        server=str(found.get("server", "")),
        version=str(found.get("version", "")),
        mode=str(found.get("mode", "")),
        role=str(found.get("role", "")),
        modules=tuple(str(name) for name in names),
    )


def _pairs(reply: Reply) -> dict[str, Reply]:
    """A map of RESP2: keys and values in turn."""
    if not isinstance(reply, list):
        return {}
    return {str(key): value for key, value in zip(reply[::2], reply[1::2], strict=False)}


@contextlib.contextmanager
def replicate(address: RedisAddress, patience: Patience | None = None) -> Iterator[ReplicationStream]:
    """Connect, log in, and have a dump sent. Leaving it ends the server's child. Raises PhoenixError."""
    patience = patience or Patience()
    with RedisWire(address, connect_timeout=patience.connect, silence=patience.silence) as wire:
        wire.login()
        yield ReplicationStream(wire, patience)
