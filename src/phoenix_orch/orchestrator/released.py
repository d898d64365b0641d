"""What was observed of one release, put together from what a store keeps of its rollout. Pure.

For whoever explains a release again: the command line and the console.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from phoenix_orch.health_validator.history import wanted
from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.health_validator.recording import Header, Recording
from phoenix_orch.health_validator.resting import past
from phoenix_orch.health_validator.seeing import FLOOR
from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import ACTIVE, Cause, Release, State

LOG = 20_000
"""Observations that the log holds at most."""
ENDED = 1000
"""Ended releases among which one is looked for."""
_UNDER_WAY = ACTIVE | {State.BAKING, State.ROLLING_BACK, State.CANCELLING}


@dataclass(frozen=True, slots=True)
class Sought:
    """A release, and the time in which it was observed."""

    header: Header
    since: datetime | None
    until: datetime | None
    """None: it is on its way."""
    past: int
    """As many observations of the time before as the judge has read."""
    reach: datetime | None
    """From when on observations are needed; None: all that are kept."""

    def lacks_past(self, found: Sequence[Observation]) -> bool:
        """There was a pause before the release: what the judge had read lies further back than `reach`."""
        since = self.since
        return since is not None and sum(observation.t1 <= since for observation in found) < self.past


def sought(view: RolloutView, ended: Sequence[Release], number: int | None = None) -> Sought:
    """The release on its way, the last one that ended, or the one of that number.

    `ended`: newest first. Raises NotFound when there is none.
    """
    header, since, until = _release(view, ended, number)
    spec = view.rollout.spec
    return Sought(
        header=header,
        since=since,
        until=until,
        past=wanted(spec.policy.statistical, max(spec.evidence.interval, FLOOR * view.speed)),
        reach=since - spec.policy.statistical.history if since is not None else None,
    )


def recording(wanted: Sought, found: Sequence[Observation]) -> Recording:
    """The release's own observations of all that were found. Raises NotFound when there is none."""
    header, since, until = wanted.header, wanted.since, wanted.until
    own = [
        observation
        for observation in found
        if observation.revision == header.revision
        and (since is None or observation.t1 > since)
        and (until is None or observation.t1 <= until)
    ]
    if not own:
        raise NotFound(
            f"no observation of release {header.release} of {header.rollout} is kept",
            remedy="the log holds the newest 20,000; the first comes an interval after the release begins",
        )
    beside = own[0].stable.revision if own[0].stable is not None else None
    before = [observation for observation in found if observation.t1 <= own[0].t0][-wanted.past :]
    return Recording(f"{header.rollout}#{header.release}", header, tuple(own), past=past(before, beside))


def decided(view: RolloutView, ended: Sequence[Release], number: int) -> tuple[Verdict | None, Cause | None]:
    """What was published last of the release, and what took it back."""
    status = view.rollout.status
    if number == status.release and status.state is not State.ROLLED_BACK:
        return view.verdict, status.cause if status.state is State.ROLLING_BACK else None
    for release in ended:
        if release.number == number:
            return release.verdict, release.cause
    return None, status.cause


def standing(view: RolloutView, number: int) -> str:
    """What the verdict does not say of a release on its way."""
    status = view.rollout.status
    if number != status.release or status.state not in (State.PAUSED, State.PROMOTING):
        return ""
    return status.state.value


def _release(
    view: RolloutView, ended: Sequence[Release], number: int | None
) -> tuple[Header, datetime | None, datetime | None]:
    """The release's header, when it began and when it ended."""
    status, spec = view.rollout.status, view.rollout.spec
    name = view.rollout.name
    if status.state in _UNDER_WAY and number in (None, status.release):
        revision = (status.stable if status.state is State.BAKING else status.canary) or ""
        version = view.versions.get(revision, "")
        header = Header(rollout=name, release=status.release, revision=revision, version=version, spec=spec)
        return header, status.release_started, None
    for release in ended:
        if number is None or release.number == number:
            return _header(name, release, spec), release.started, release.ended
    if number is None:
        raise NotFound(
            f"{name} has not released anything yet", remedy="`phoenix rollout start` starts a release"
        )
    known = ", ".join(str(release.number) for release in ended[:10]) or "none"
    raise NotFound(f"{name} has no release {number}", remedy=f"releases that have ended: {known}")


def _header(name: str, release: Release, spec: RolloutSpec) -> Header:
    return Header(
        rollout=name,
        release=release.number,
        revision=release.revision,
        version=release.version,
        spec=spec,
        outcome=release.outcome.value,
        reason=release.cause.reason if release.cause is not None else release.reason,
        ended=release.ended,
    )
