"""What a person is shown of the rollouts of a cluster, from its objects and from the log. Changes nothing.

Where a rollout stands is in its object, and needs no log. Events, ended releases and observations are in the
log; what was decided a moment ago may still be in the object alone, and is shown with them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.kernel.errors import NotFound, PhoenixError, Retryable
from phoenix_orch.orchestrator.cluster.reach import Found, Sight
from phoenix_orch.orchestrator.rates import RateMeter
from phoenix_orch.orchestrator.reading import or_none
from phoenix_orch.orchestrator.views import Rates, RolloutView
from phoenix_orch.rollout.kubernetes_status import VerdictSummary
from phoenix_orch.rollout.remaining import time_left
from phoenix_orch.rollout.status import Event, Release, Revision
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.traffic.router import TrafficSeen
from phoenix_orch.workload.deployment.history import history as kept_history
from phoenix_orch.workload.deployment.history import release_of
from phoenix_orch.workload.deployment.scene import Scene

_MOST = 20_000
"""Observations that the log holds at most."""
_VERSIONS = 20
"""Releases that are looked at for what people call their revisions."""


async def views(there: Sight) -> list[RolloutView]:
    """All rollouts by what their own objects say: one request, however many there are."""
    now = datetime.now(UTC)
    return [
        _view(found, now, seen=TrafficSeen(weight=found.status.weight_seen))
        for found in await there.rollouts()
    ]


async def view(there: Sight, name: str, *, pods: bool = False) -> RolloutView:
    """One rollout, with what carries its weight. `pods`: with its pods, too, which takes more rights.

    Raises NotFound, Retryable. What else cannot be read is left out.
    """
    found, now = await there.rollout(name), datetime.now(UTC)
    route = found.one.rollout.route
    seen = await found.router.observe(route)
    shown = _view(found, now, seen=seen.model_copy(update={"weight": found.status.weight_seen}))
    shown = shown.model_copy(update={"traffic": await or_none(found.router.read(route))})
    if pods and (scene := await _scene(there, found)) is not None:
        workload = scene.state(found.one.rollout.service, now)
        shown = shown.model_copy(update={"workload": workload, "versions": _images(scene)})
    log = await _log(there, found)
    return shown if log is None else await _with_log(shown, log)


def _view(found: Found, now: datetime, *, seen: TrafficSeen) -> RolloutView:
    rollout, short = found.one.rollout, found.status.verdict
    verdict = _verdict(short) if short is not None else None
    return RolloutView(
        at=now,
        rollout=rollout,
        steps=rollout.spec.steps(),
        seen=seen,
        verdict=verdict,
        time_left=time_left(rollout.spec, rollout.status, now, verdict),
    )


def _verdict(short: VerdictSummary) -> Verdict:
    """Without its evidence, which is in the log."""
    return Verdict(**{name: getattr(short, name) for name in VerdictSummary.model_fields})


async def _scene(there: Sight, found: Found) -> Scene | None:
    try:
        return await there.scene(found.one)
    except PhoenixError:  # a person may be allowed to read Rollouts and nothing else
        return None


def _images(scene: Scene) -> dict[str, str]:
    """What people call the revisions of the ReplicaSets that are kept."""
    revisions = scene.revisions()
    named = {one["metadata"]["name"]: one for one in scene.replica_sets}
    return {revision: release_of(named[name]["spec"]["template"]) for name, revision in revisions.items()}


async def _with_log(shown: RolloutView, log: RolloutStore) -> RolloutView:
    """With the evidence of the verdict, rates, and what revisions are called; none while the log is away."""
    rollout = shown.rollout
    try:
        verdict = await log.verdict(rollout.name)
        canary, stable = await _rates(shown, log)
        ended = await log.history(rollout.name, limit=_VERSIONS)
    except Retryable:
        return shown
    whole = verdict[0] if verdict is not None else None
    newest = whole is not None and shown.verdict is not None and whole.at >= shown.verdict.at
    return shown.model_copy(
        update={
            "verdict": whole if newest else shown.verdict,
            "canary": canary,
            "stable": stable,
            "versions": {
                **{one.revision: one.version for one in ended if one.version},
                **shown.versions,
            },
        }
    )


async def _rates(shown: RolloutView, log: RolloutStore) -> tuple[Rates, Rates]:
    rollout = shown.rollout
    began = rollout.status.release_started
    meter = RateMeter(rollout.spec.evidence.window, last=began)
    meter.feed(await log.observations(rollout.name, since=began, limit=_MOST))
    return meter.rates(shown.at)


async def _log(there: Sight, found: Found) -> RolloutStore | None:
    """The log, where it is named, answers, and knows this object: not a namesake that was deleted."""
    if there.log is None:
        return None
    try:
        copy = await there.log.get(found.one.name)
    except (NotFound, Retryable):
        return None
    return there.log if copy.service == found.one.uid else None


async def _asked(there: Sight, found: Found, what: str) -> RolloutStore | None:
    """The log, for what is nowhere else; None: it knows nothing of this object.

    Raises NotFound where none is named, Retryable while it is away.
    """
    if there.log is None:
        raise NotFound(
            f"the {what} of {found.one.name} are in the Redis or Valkey of Phoenix, and none is named",
            remedy="give --store redis://HOST:PORT/0, or PHOENIX_STORE;"
            " `kubectl port-forward` reaches one inside the cluster",
        )
    try:
        copy = await there.log.get(found.one.name)
    except NotFound:
        return None
    return there.log if copy.service == found.one.uid else None


async def events(there: Sight, name: str, *, limit: int) -> list[Event]:
    """What happened, oldest first; without a log, what the object still has of it."""
    found = await there.rollout(name)
    late = found.status.outbox.events
    log = await _asked(there, found, "events") if there.log is not None else None
    before = await log.events(name, limit=limit) if log is not None else []
    both = [*before, *(event for event in late if event not in before)]
    return sorted(both, key=lambda event: event.at)[-limit:]


async def history(there: Sight, name: str, *, limit: int) -> list[Release]:
    """Releases that have ended, the newest first. Raises NotFound without a log."""
    found = await there.rollout(name)
    log = await _asked(there, found, "ended releases")
    before = await log.history(name, limit=limit) if log is not None else []
    known = {release.number for release in before}
    late = [one for one in found.status.outbox.releases if one.number not in known]
    return sorted([*before, *late], key=lambda release: release.number, reverse=True)[:limit]


async def observations(there: Sight, name: str, *, since: datetime | None, limit: int) -> list[Observation]:
    """What was observed, oldest first. Raises NotFound without a log."""
    found = await there.rollout(name)
    log = await _asked(there, found, "observations")
    return await log.observations(name, since=since, limit=limit) if log is not None else []


async def revisions(there: Sight, name: str) -> list[Revision]:
    """What stable ran, as far as its ReplicaSets are kept: numbers as `kubectl rollout history` has them."""
    found = await there.rollout(name)
    scene = await there.scene(found.one)
    return [
        Revision(
            revision=one.revision,
            number=one.number,
            version=", ".join(one.images),
            at=one.created or datetime.now(UTC),
            change_cause=one.change_cause,
            template={},
        )
        for one in kept_history(scene.stable, scene.replica_sets, revisions=scene.revisions())
    ]
