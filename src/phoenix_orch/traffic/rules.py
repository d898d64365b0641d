"""What every traffic object obeys, wherever it is kept. Pure.

Each function takes the object as it stands and gives the object as it has to be stored, its version
raised by one; or the very same object when there is nothing to change. Routers add only where the
object lives and how a write is made conditional.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from phoenix_orch.kernel.errors import Conflict, Invalid, Latched
from phoenix_orch.traffic.router import Group, TrafficState


def written(current: TrafficState | None, wanted: TrafficState) -> TrafficState:
    """The object after a conditional write of `wanted`. `current` None: the route does not exist yet.

    Raises Conflict, Latched and Invalid as `TrafficRouter.write` documents.
    """
    found = current.version if current else 0
    if wanted.version != found:
        raise Conflict(
            f"the traffic of route {wanted.route!r} changed: it has version {found}, not {wanted.version}",
            remedy="read it again and decide again",
        )
    _check_shape(wanted)
    latched = _joined(current.aborted if current else (), wanted.aborted)
    if wanted.weight > 0 and wanted.canary and wanted.canary.revision in latched:
        raise _latched(wanted.route, wanted.canary.revision)
    becomes_stable = current is None or current.stable.revision != wanted.stable.revision
    if becomes_stable and wanted.stable.revision in latched:
        raise _latched(wanted.route, wanted.stable.revision)
    return _stored(wanted, found, aborted=latched)


def aborted(current: TrafficState, revision: str) -> TrafficState:
    """The object with `revision` latched and without traffic.

    A stable group that is aborted changes places with the previous one, if that can serve: it has
    backends and is not latched itself. Otherwise it stays, because stable always serves (rule R5).
    """
    latched = _joined(current.aborted, (revision,)) if revision not in current.aborted else current.aborted
    is_canary = current.canary is not None and current.canary.revision == revision
    weight = 0 if is_canary else current.weight
    stable, previous = current.stable, current.previous
    if stable.revision == revision and previous is not None and _can_serve(previous, latched):
        stable, previous = previous, stable
    after = current.model_copy(
        update={"aborted": latched, "weight": weight, "stable": stable, "previous": previous}
    )
    return current if after == current else _stored(after, current.version, aborted=latched)


def cleared(current: TrafficState, revision: str) -> TrafficState:
    """The object without the latch on `revision`. Its weight is left as it is."""
    if revision not in current.aborted:
        return current
    return _stored(current, current.version, aborted=tuple(r for r in current.aborted if r != revision))


def without(current: TrafficState, dead: Collection[str]) -> TrafficState:
    """The object without the addresses `dead` in the groups that requests are sent to.

    This is the one way for stable to lose its last address: nobody can be sent there in any case, so R5 is
    not touched, and its revision stays stable. The previous group keeps its own, for a swap back.
    """
    canary = _left(current.canary, dead) if current.canary is not None else None
    after = current.model_copy(update={"stable": _left(current.stable, dead), "canary": canary})
    return current if after == current else _stored(after, current.version, aborted=current.aborted)


def share(state: TrafficState) -> int:
    """The canary's share in per cent that the data plane has to give.

    A canary without backends gets none, as with ingress-nginx: its requests would fail.
    """
    return state.weight if state.canary and state.canary.backends else 0


def _check_shape(wanted: TrafficState) -> None:
    if not wanted.stable.backends:
        raise Invalid(
            f"route {wanted.route!r}: the stable group {wanted.stable.revision!r} has no backends",
            remedy="stable always serves: wait until an instance of it is ready",
        )
    if not 0 <= wanted.weight <= 100:
        raise Invalid(
            f"route {wanted.route!r}: weight {wanted.weight} is not a percentage",
            remedy="use a whole number from 0 to 100",
        )
    if wanted.weight > 0 and wanted.canary is None:
        raise Invalid(
            f"route {wanted.route!r}: weight {wanted.weight} without a canary",
            remedy="name the canary group, or set weight 0",
        )


def _left(group: Group, dead: Collection[str]) -> Group:
    kept = tuple(backend for backend in group.backends if backend.url not in dead)
    return group.model_copy(update={"backends": kept})


def _can_serve(group: Group, latched: tuple[str, ...]) -> bool:
    return bool(group.backends) and group.revision not in latched


def _latched(route: str, revision: str) -> Latched:
    return Latched(
        f"route {route!r}: revision {revision!r} was rolled back and may not carry traffic",
        remedy="a person may allow it again: phoenix rollout retry NAME",
    )


def _joined(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*old, *new)))


def _stored(state: TrafficState, version: int, *, aborted: tuple[str, ...]) -> TrafficState:
    return state.model_copy(update={"version": version + 1, "aborted": aborted, "drifted": False})
