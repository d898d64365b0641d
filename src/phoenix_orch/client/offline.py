"""Take a release back with Phoenix dead: the latch is set on the traffic object itself (rule R2)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from phoenix_orch.kernel.errors import BadState, NotFound, PhoenixError
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.layout import Layout, kept_clock
from phoenix_orch.rollout.aborts_by_hand import AbortNote, AbortNotes
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.router import TrafficState


@dataclass(frozen=True, slots=True)
class Aborted:
    route: str
    revision: str
    state: TrafficState
    """The traffic object as it is now."""
    router: str = "ok"
    """`ok`: the router obeys it; else what is wrong with the router."""
    seen: int | None = None
    """What the router was seen to give the revision after that, in per cent of the requests."""
    untold: str = ""
    """Why it could not be noted who did this and why; empty: it was."""


def abort(
    data_dir: Path, name: str, *, revision: str = "", reason: str = "", dry_run: bool = False
) -> Aborted:
    """Latch the revision that rollout `name` is releasing, or baking, and take its traffic away.

    Needs the data directory and nothing that runs. Phoenix finds the latch when it is back and ends the
    release; a note beside it says who did it and why, and the latch does not need that. `revision`: the
    one that is meant, where that is known; no other one is touched.
    Raises NotFound without such a route, BadState where nothing is being released, or another revision.
    """
    return asyncio.run(_abort(data_dir, name, meant=revision, reason=reason, dry_run=dry_run))


def look(data_dir: Path, name: str, revision: str) -> Aborted:
    """What the traffic object says, and the router does, about a revision. Changes nothing.

    Raises NotFound without a route, Retryable or Invalid where the object cannot be read.
    """
    return asyncio.run(_seen(data_dir, name, revision))


async def _abort(data_dir: Path, name: str, *, meant: str, reason: str, dry_run: bool) -> Aborted:
    layout = Layout(data_dir)
    router = EmbeddedRouter(layout.router)
    route = _route(layout, name)
    known = await router.routes() if layout.router.is_dir() else ()
    if route not in known:
        raise NotFound(
            f"there is no route {route!r} in {data_dir}",
            remedy=f"routes: {', '.join(known)}"
            if known
            else "name the directory of your Phoenix with --data-dir",
        )
    state = await router.read(route)
    revision = _to_take_back(name, state, meant)
    if dry_run:
        return Aborted(route=route, revision=revision, state=state)
    after = await router.abort(route, revision)
    untold = _note(layout, state, revision, reason) if revision not in state.aborted else ""
    condition = await router.insist()
    seen = (await router.observe(route)).share(revision)
    return Aborted(route, revision, after, router=condition, seen=seen, untold=untold)


def _note(layout: Layout, before: TrafficState, revision: str, reason: str) -> str:
    """Keep who and why for Phoenix; what keeps that from being done."""
    note = AbortNote(
        revision=revision,
        at=kept_clock(layout).now(),
        weight=100 if before.stable.revision == revision else before.weight,
        reason=reason,
    )
    try:
        AbortNotes(layout.aborts).write(before.route, note)
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def _seen(data_dir: Path, name: str, revision: str) -> Aborted:
    layout = Layout(data_dir)
    router, route = EmbeddedRouter(layout.router), _route(layout, name)
    state, seen = await router.read(route), (await router.observe(route)).share(revision)
    condition = "ok" if seen == 0 else await router.condition(within=0.0)
    return Aborted(route, revision, state, router=condition, seen=seen)


def _to_take_back(name: str, state: TrafficState, meant: str) -> str:
    """The revision that is meant, if it may still get traffic or will; else the one that is on its way."""
    waits = state.canary is None and meant != state.stable.revision
    if meant and (meant in state.aborted or waits):
        return meant
    revision = _released(name, state)
    if meant not in {"", revision}:
        raise BadState(
            f"revision {meant} of {name} is not on its way any more; {revision} is",
            remedy=f"phoenix rollout status {name} shows where it stands",
        )
    return revision


def _released(name: str, state: TrafficState) -> str:
    """The revision to take back: the canary, or in the bake the new stable one.

    One that was taken back in the bake is the previous group by now: once more does no harm.
    """
    if state.canary is not None:
        return state.canary.revision
    if state.previous is not None and state.previous.revision in state.aborted:
        return state.previous.revision
    if state.previous is not None and state.previous.backends:
        return state.stable.revision
    raise BadState(
        f"no release of {name} is on its way: {state.stable.revision} has all the traffic",
        remedy="`phoenix rollout undo` goes back to an earlier revision once Phoenix runs",
    )


def _route(layout: Layout, name: str) -> str:
    """The route of a rollout by the configuration applied last; where there is none, that of its name."""
    try:
        kept = PhoenixFile.model_validate_json(layout.config.read_text(encoding="utf-8"))
        return kept.effective_rollouts()[name].route or name
    except (OSError, ValueError, KeyError, PhoenixError):
        return name
