"""What the statistical gate keeps between two observations, and how it is stored. Pure.

Time is cut into cells of one evidence interval, counted from the first observation. A closed cell has
gone into the `Ledger`; the open one is a `Block` of plain sums. So it does not matter in how many
observations a cell's numbers came, and going on from what was stored gives exactly the same evidence.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from phoenix_orch.health_validator.observation import Quality
from phoenix_orch.health_validator.sequential import absolute, relative
from phoenix_orch.health_validator.sequential.mixture import Mixture, kept

N, X, A, T, LOW, EDGES = 0, 1, 2, 3, 4, 8
"""Places in `Numbers`: requests answered, errors, requests given up on, requests of known latency; from LOW
on, for p95 and p99, those certainly and those possibly slower than the limit; from EDGES on those slower than
each lane's edge."""

Numbers = tuple[int, ...]
"""What one variant did, as sums; see N, X, A, T, LOW, EDGES."""

Phi = tuple[float, float, float, float]
"""Dispersion of errors, of requests slower than the limits of p95 and p99, and of those given up on."""

NOTHING: Numbers = (0,) * EDGES

Four = tuple[float, float, float, float]
"""Canary's sum and weight, stable's sum and weight."""

NO_POINT = (0, "", 0, 0)


class Lanes(NamedTuple):
    """What canary and stable are compared by; fixed when the first histogram is seen."""

    edges: tuple[float, ...] = ()
    """Seconds, rising."""
    odds: tuple[float, ...] = ()
    """Odds ratio to stable that is tolerated at each edge."""
    spread: tuple[float, ...] = ()
    """Dispersion at each edge."""


class Block(NamedTuple):
    """The open cell."""

    cell: int
    before: int = -1
    """Weight that was seen when it began."""
    parts: int = 0
    """Observations that it is made of."""
    ms: int = 0
    """Time that no earlier observation covered."""
    good: bool = True
    """All of it was watched at the step's weight."""
    canary: Numbers = NOTHING
    """All that may be evidence; latency without that of new processes."""
    stable: Numbers = NOTHING
    pair: tuple[Numbers, Numbers] | None = None
    """Canary and stable over the same seconds."""
    total: tuple[Numbers, Numbers] | None = None
    """What counts for the step: seen at its weight. The lanes' edges give the quantiles shown."""
    business: tuple[Four, ...] = ()
    """Per counter: events and requests of canary, of stable."""
    gauges: tuple[Four, ...] = ()
    """Per gauge: sum of value*ms and ms, of canary and of stable."""


class GaugeBook(NamedTuple):
    """One gauge: evidence from past minutes, and the minute that is not over."""

    test: Mixture
    minutes: int = 0
    """Of this step."""
    bad: int = 0
    now: Four = (0.0, 0.0, 0.0, 0.0)
    last: float | None = None
    """Mean of the last minute that is over."""


class Guard(NamedTuple):
    """Counts of the whole release that evidence has to stand on."""

    bad: int = 0
    cells: int = 0
    """Cells with a failed request."""
    burst: bool = False
    """Half of twenty or more requests failed in one cell."""
    timed: int = 0
    left: int = 0
    """Cells with a request that was given up on."""


class Ledger(NamedTuple):
    """All closed cells."""

    cell: int
    """The last one that brought numbers."""
    fresh: bool
    """The step's first numbers are still to come."""
    observed_ms: int
    step_cell: int
    """Where the step's weight was seen first; -1: not yet."""
    canary: Numbers
    """Sums of this step. Zero again after an outage."""
    stable: Numbers
    requests: int
    """Of the canary in this step, whatever happened."""
    business: tuple[Four, ...]
    recent: Four
    """Requests and errors of canary and stable, fading over five windows."""
    guard: Guard
    sick: tuple[int, ...]
    """Cell since which stable has been beyond its limit, -1: it is not; errors, p95, p99, bounds."""
    errors: tuple[Mixture, Mixture, Mixture]
    """Canary against the limit, stable against it, canary against stable."""
    latency: tuple[tuple[Mixture, Mixture], ...]
    """Canary and stable against the limit of p95, of p99."""
    shape: tuple[Mixture, ...]
    """Canary against stable at each lane's edge."""
    bounds: tuple[tuple[Mixture, Mixture, Mixture], ...]
    """As `errors`, for each limit of a business metric."""
    gauges: tuple[GaugeBook, ...]
    minute: int
    """The window that `GaugeBook.now` belongs to."""
    floors: tuple[int, ...]
    """Memory of the canary in bytes at the end of the last windows."""
    abandoned: Mixture
    """Requests given up on: canary against stable."""
    usual: tuple[int, int]
    """Requests of stable in this release, and those of them that were given up on."""

    def against_stable(self, place: int) -> float:
        """Evidence that stable is beyond the limit at a place of `sick`."""
        if place == 0:
            return self.errors[1].value
        if place <= len(self.latency):
            return self.latency[place - 1][1].value
        return self.bounds[place - 1 - len(self.latency)][1].value


class Slot(NamedTuple):
    """A part of the rolling window: raw sums of some cells."""

    number: int
    sums: tuple[int, ...]
    """Of canary and stable up to EDGES each, then the requests of both while the step's weight was seen."""


class Recent(NamedTuple):
    """The rolling window."""

    canary: Numbers = NOTHING
    stable: Numbers = NOTHING
    routed: tuple[int, int] = (0, 0)


def together(slots: tuple[Slot, ...]) -> Recent:
    """The rolling window as one."""
    if not slots:
        return Recent()
    sums = slots[0][1] if len(slots) == 1 else tuple(map(sum, zip(*[slot[1] for slot in slots], strict=True)))
    return Recent(sums[:EDGES], sums[EDGES : 2 * EDGES], (sums[-2], sums[-1]))


@dataclass(slots=True)
class Books:
    """Everything. Never changed once made, though not frozen: that would cost much of each look's time."""

    structure: str
    """Of the configuration that they are kept for."""
    anchor: int
    """Where cell 1 begins, in milliseconds since 1970."""
    at: int
    weight: int
    quality: Quality
    note: str
    phi: Phi
    known: bool
    """They were measured in stable's past."""
    lanes: Lanes
    ledger: Ledger
    block: Block
    window: tuple[Slot, ...]
    pending: tuple[Numbers, Numbers, int] | None
    """Numbers of one variant while the other does not answer, and the cell of the first."""
    warm: tuple[int, int]
    """Most processes of the canary so far; the moment from which its latency counts."""
    silent: tuple[float, int]
    """Requests that the canary should have had since its last one; the moment when it was too many."""
    point: tuple[int, str, int, int]
    """When the point rule would have rolled back first (0: never), the metric, bad ones, requests."""
    view: Ledger | None = field(default=None, compare=False)
    """The ledger as if the open cell were closed."""
    recent: Recent | None = field(default=None, compare=False)
    """The sums of `window`. Both follow from the rest and are not stored."""


# -- storing ---------------------------------------------------------------------------------------


def encode(books: Books) -> dict[str, Any]:
    """Plain values for JSON; all stakes as one base85 text of little-endian doubles."""
    ledger = books.ledger
    floats = [value for test in _tests(ledger) for value in (test.reserve, *test.weights)]
    return {
        "structure": books.structure,
        "anchor": books.anchor,
        "at": books.at,
        "weight": books.weight,
        "quality": books.quality.value,
        "note": books.note,
        "phi": books.phi,
        "known": books.known,
        "lanes": books.lanes,
        "block": _packed(books.block),
        "window": books.window,
        "pending": books.pending,
        "warm": books.warm,
        "silent": books.silent,
        "point": books.point,
        "ledger": [
            *ledger[:7],
            ledger.business,
            ledger.recent,
            ledger.guard,
            ledger.sick,
            [len(ledger.shape), len(ledger.bounds)],
            [[book.minutes, book.bad, book.now, book.last] for book in ledger.gauges],
            ledger.minute,
            ledger.floors,
            ledger.usual,
        ],
        "stakes": base64.b85encode(struct.pack(f"<{len(floats)}d", *floats)).decode(),
    }


def decode(data: Any) -> Books:
    """The opposite. Raises ValueError, TypeError, KeyError or struct.error for anything else."""
    raw = base64.b85decode(data["stakes"])
    stakes = iter(struct.unpack(f"<{len(raw) // 8}d", raw))
    return Books(
        structure=str(data["structure"]),
        anchor=int(data["anchor"]),
        at=int(data["at"]),
        weight=int(data["weight"]),
        quality=Quality(data["quality"]),
        note=str(data["note"]),
        phi=_four(data["phi"]),
        known=bool(data["known"]),
        lanes=Lanes(*map(_floats, data["lanes"])),
        ledger=_ledger(data["ledger"], stakes),
        block=_unpacked(data["block"]),
        window=tuple(Slot(number, _ints(sums)) for number, sums in data["window"]),
        pending=_pending(data["pending"]),
        warm=_two(data["warm"]),
        silent=(float(data["silent"][0]), int(data["silent"][1])),
        point=(int(data["point"][0]), str(data["point"][1]), *_two(data["point"][2:])),
    )


FAIL = len(absolute.WORSE)
FEW = len(absolute.FEW)
"""Alternatives of a test of the canary against a limit, and of stable or a gauge."""
VERSUS = len(relative.RATIOS)
SHAPE = len(relative.FEW)
"""Alternatives of a comparison with stable, and of one at a single edge or of requests given up on."""


def _packed(block: Block) -> list[Any]:
    """Counts over the same seconds, and those that count for the step, are mostly all there are."""
    everything = (block.canary, block.stable)
    pair = True if block.pair == everything else block.pair
    total = True if block.total == everything else block.total
    return [*block[:7], pair, total, *block[9:]]


def _unpacked(data: Sequence[Any]) -> Block:
    everything = _ints(data[5]), _ints(data[6])
    pair, total = (everything if found is True else _pair(found) for found in data[7:9])
    cell, before, parts, ms, good = data[:5]
    return Block(cell, before, parts, ms, good, *everything, pair, total, *map(_fours, data[9:11]))


def _tests(ledger: Ledger) -> Iterator[Mixture]:
    """In the order of storing."""
    yield from ledger.errors
    for pair in ledger.latency:
        yield from pair
    yield from ledger.shape
    for three in ledger.bounds:
        yield from three
    for book in ledger.gauges:
        yield book.test
    yield ledger.abandoned


def _ledger(data: Sequence[Any], stakes: Iterator[float]) -> Ledger:
    def test(alternatives: int) -> Mixture:
        return kept(next(stakes), tuple(next(stakes) for _ in range(alternatives)))

    def three() -> tuple[Mixture, Mixture, Mixture]:
        return test(FAIL), test(FEW), test(VERSUS)

    shapes, bounds = data[11]
    errors = three()
    latency = ((test(FAIL), test(FEW)), (test(FAIL), test(FEW)))
    return Ledger(
        cell=data[0],
        fresh=data[1],
        observed_ms=data[2],
        step_cell=data[3],
        canary=_ints(data[4]),
        stable=_ints(data[5]),
        requests=data[6],
        business=_fours(data[7]),
        recent=_four(data[8]),
        guard=Guard(*data[9]),
        sick=_ints(data[10]),
        errors=errors,
        latency=latency,
        shape=tuple(test(SHAPE) for _ in range(shapes)),
        bounds=tuple(three() for _ in range(bounds)),
        gauges=tuple(
            GaugeBook(test(FEW), minutes, bad, _four(now), last) for minutes, bad, now, last in data[12]
        ),
        minute=data[13],
        floors=_ints(data[14]),
        abandoned=test(SHAPE),
        usual=_two(data[15]),
    )


def _ints(data: Sequence[Any]) -> tuple[int, ...]:
    return tuple(map(int, data))


def _floats(data: Sequence[Any]) -> tuple[float, ...]:
    return tuple(map(float, data))


def _two(data: Sequence[Any]) -> tuple[int, int]:
    first, second = map(int, data)
    return first, second


def _four(data: Sequence[Any]) -> Four:
    first, second, third, fourth = map(float, data)
    return first, second, third, fourth


def _fours(data: Sequence[Sequence[Any]]) -> tuple[Four, ...]:
    return tuple(_four(item) for item in data)


def _pair(data: Sequence[Sequence[Any]] | None) -> tuple[Numbers, Numbers] | None:
    return None if data is None else (_ints(data[0]), _ints(data[1]))


def _pending(data: Sequence[Any] | None) -> tuple[Numbers, Numbers, int] | None:
    return None if data is None else (_ints(data[0]), _ints(data[1]), int(data[2]))
