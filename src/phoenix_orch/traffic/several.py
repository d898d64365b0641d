"""One route of ours on several objects of the cluster.

Each object carries the whole record. The one with the newest leads: who writes it has the word, and the
others follow it. One that lags behind is drift, and is put right by the next write or abort.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from phoenix_orch.kernel.errors import Conflict, PhoenixError, Retryable
from phoenix_orch.traffic.router import TrafficState

Write = Callable[[], Awaitable[object]]
"""A conditional write of one object. Raises PhoenixError."""


async def in_turn(lead: Write, others: Sequence[Write]) -> None:
    """For more weight: where the lead cannot be written nothing is. After it, a failure at one keeps no other
    from being written. Raises the first error; a conflict of the others passes by itself."""
    await lead()
    _raise(await _results(others))


async def at_once(lead: Write, others: Sequence[Write]) -> None:
    """For less weight: no failure, and no slow answer, keeps any other from being written (R2)."""
    first, *rest = await _results([lead, *others])
    if first is not None:
        raise first
    _raise(rest)


async def _results(writes: Sequence[Write]) -> list[PhoenixError | None]:
    async def tried(write: Write) -> PhoenixError | None:
        try:
            await write()
        except PhoenixError as error:
            return error
        return None

    return await asyncio.gather(*(tried(write) for write in writes))


def _raise(errors: Iterable[PhoenixError | None]) -> None:
    error = next((error for error in errors if error is not None), None)
    if isinstance(error, Conflict):
        raise Retryable(error.message, remedy="it is written with the next pass")
    if error is not None:
        raise error


def merged(lead: TrafficState, latched: Iterable[str]) -> TrafficState:
    """What the lead says, with the latches of all. Pure."""
    return lead.model_copy(update={"aborted": tuple(dict.fromkeys((*lead.aborted, *latched)))})


def same(one: TrafficState, other: TrafficState) -> bool:
    """Both say the same of the traffic; latches are joined anyway. Pure."""
    return one.model_copy(update={"aborted": ()}) == other.model_copy(update={"aborted": ()})


def overtaken(found: TrafficState, state: TrafficState, known: Collection[str], *, leads: bool) -> bool:
    """Somebody newer wrote `found` on an object that was to follow with `state`. Pure.

    `known`: what was latched when `state` was made. Raises Conflict where it has to be made anew: somebody
    latched meanwhile, or two wrote at once.
    """
    latched = set(found.aborted) - {*known, *state.aborted}
    rival = found.version == state.version and not same(found, state)
    if latched or rival or (leads and found.version >= state.version):
        raise Conflict(f"somebody else wrote the traffic of route {state.route!r}")
    return found.version > state.version
