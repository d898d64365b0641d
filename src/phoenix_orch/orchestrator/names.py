"""What a name leads to, and what was probably meant by one that leads nowhere."""

from __future__ import annotations

from collections.abc import Iterable

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kernel.guess import did_you_mean
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store.store import PagedStore, RolloutStore


async def rollout(store: RolloutStore, name: str) -> Rollout:
    """The rollout of that name. Raises NotFound with those there are."""
    try:
        return await store.get(name)
    except NotFound:
        raise _unknown("rollout", name, (one.name for one in await store.rollouts())) from None


async def marked(store: PagedStore, name: str) -> tuple[Rollout, str]:
    """The same with its mark."""
    try:
        return await store.marked(name)
    except NotFound:
        raise _unknown("rollout", name, (one.name for one in await store.rollouts())) from None


async def rollout_of(store: RolloutStore, service: str) -> Rollout:
    """The rollout that releases a service. Raises NotFound with the services there are."""
    rollouts = await store.rollouts()
    for one in rollouts:
        if one.service == service:
            return one
    raise _unknown("service", service, (one.service for one in rollouts))


def _unknown(kind: str, name: str, known: Iterable[str]) -> NotFound:
    names = sorted(known)
    guess = did_you_mean(name, names)
    return NotFound(
        f"there is no {kind} {name!r}" + (f"; did you mean {guess!r}?" if guess else ""),
        remedy=f"{kind}s: {', '.join(names)}" if names else "`phoenix apply -f FILE` makes one",
    )
