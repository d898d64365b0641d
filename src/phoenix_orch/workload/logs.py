"""What instances wrote, across rotation: pages for people, and patterns for verification.

A place is the number of bytes an instance had written before it; it never changes and survives
rotation and restarts. Reading blocks; call from a thread. What is older than the kept files is gone,
and a place before it means the oldest line there is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix_orch.kernel.patterns import any_of
from phoenix_orch.kernel.text import plain
from phoenix_orch.workload.log_rotation import Segment, segments, shared
from phoenix_orch.workload.state_file import Layout

LONGEST_LINE = 16 * 1024
"""Bytes of a line that are shown or searched; the rest of it is skipped."""
MATCHES = 100
"""Enough matching lines to say that a pattern appears."""

_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One line. Bytes that are no text become U+FFFD; colours and other terminal controls are gone."""

    instance: str
    after: int
    """The place behind it."""
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """Lines instance by instance, and for each instance the place to go on from."""

    lines: tuple[Line, ...]
    places: Mapping[str, int]


class ServiceLogs:
    """Reads the logs of one service below a data directory; no supervisor has to run."""

    def __init__(self, data_dir: Path, service: str) -> None:
        """Raises Invalid for what cannot be the name of a service."""
        self._layout = Layout(data_dir, service)
        self._service = service

    def instances(self, revision: str | None = None) -> tuple[str, ...]:
        """Instances with a log, in the order of their first starts; of one revision if given."""
        names = {path.name.partition(".log")[0] for path in self._layout.logs.glob("*.log*")}
        if revision is not None:
            names = {name for name in names if name.startswith(f"{self._service}-{revision}-")}
        return tuple(sorted(names, key=_ordinal))

    def places(self, revision: str | None = None) -> dict[str, int]:
        """The present ends of the logs: what is written from now on comes after them."""
        return {name: self._end(name) for name in self.instances(revision)}

    def tail(
        self, instance: str | None = None, *, lines: int = 100, since: Mapping[str, int] | None = None
    ) -> Page:
        """The last `lines` lines of each instance, or of one; of those in `since` all after their place.

        A line that is still being written is left for the next call.
        """
        since = since or {}
        found: list[Line] = []
        places: dict[str, int] = {}
        for name in self.instances() if instance is None else (instance,):
            known = since.get(name)
            new = deque(self.read(name, known or 0), maxlen=lines if known is None else None)
            places[name] = new[-1].after if new else known or 0
            found += new
        return Page(tuple(found), places)

    def scan(
        self,
        revision: str,
        patterns: Sequence[str],
        *,
        since: Mapping[str, int] | None = None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> tuple[Line, ...]:
        """The first lines of one revision that match one of the regular expressions, at most `MATCHES`.

        Instances that are not in `since` are searched from their first line on. `given_up` is asked before
        each line: whether nobody waits for the answer any more.
        """
        is_bad = any_of(patterns)
        found: list[Line] = []
        for name in self.instances(revision):
            for line in self.read(name, (since or {}).get(name, 0)):
                if given_up():
                    return tuple(found)
                if is_bad(line.text.encode()):
                    found.append(line)
                    if len(found) == MATCHES:
                        return tuple(found)
        return tuple(found)

    def read(self, instance: str, place: int = 0) -> Iterator[Line]:
        """Whole lines of one instance after `place`. Exhaust or close it: it keeps rotation waiting."""
        with shared(self._layout.log(instance)) as live:
            if live is None:
                return
            pieces = _bytes_after(segments(self._layout.log(instance)), place)
            for after, raw in _lines(pieces):
                yield Line(instance, after, _text(raw))

    def _end(self, instance: str) -> int:
        log = self._layout.log(instance)
        with shared(log) as live:
            return segments(log)[-1].start + log.stat().st_size if live is not None else 0


def _bytes_after(files: Sequence[Segment], place: int) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) of every piece after `place`. Pieces follow each other without a gap."""
    for segment in files:
        with segment.path.open("rb") as file:
            at = max(segment.start, place)
            file.seek(at - segment.start)
            while piece := file.read(_PIECE):
                yield at, piece
                at += len(piece)


def _lines(pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """(place behind it, its first bytes) of every line that is complete."""
    begun = b""
    for at, piece in pieces:
        *whole, rest = piece.split(b"\n")
        for line in whole:
            at += len(line) + 1  # noqa: PLW2901 - the place moves on
            yield at, (begun + line[:LONGEST_LINE])[:LONGEST_LINE]
            begun = b""
        begun = (begun + rest[:LONGEST_LINE])[:LONGEST_LINE]


def _text(raw: bytes) -> str:
    return plain(raw.decode(errors="replace").rstrip("\r"), keep="\t")


def _ordinal(instance: str) -> tuple[int, str]:
    number = instance.rpartition("-")[2]
    return (int(number) if number.isdigit() else 0, instance)
