"""What a policy would have done on a recorded release. Pure.

The walk is the record's: each observation carries the weight that was applied when it was made, and
nothing is known of what another weight would have shown. So the policy gives limits, durations and the
gate, and is asked after every observation what it says. Its first rollback is what it would have done.
Where the record went on to the next step before the policy would have, that is said, and what follows
is judged all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from phoenix_orch.health_validator import placing, recording
from phoenix_orch.health_validator.history import History, learn
from phoenix_orch.health_validator.judge import JudgeConfig
from phoenix_orch.health_validator.observation import Observation, Verdict, VerdictKind
from phoenix_orch.health_validator.recording import Recording
from phoenix_orch.health_validator.replay import effective, replay
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model, Phase, RolloutSpec, Step


class Ending(StrEnum):
    """What the policy comes to at the end of the record."""

    PROMOTED = "promoted"  # every step of the record's walk was passed
    ROLLED_BACK = "rolledBack"
    WAITS = "waits"  # the record went on where the policy asks for more evidence
    OPEN = "open"  # the record ends before the policy has decided


class StepReplayed(Model):
    """One step of the record's walk under the policy."""

    phase: str
    weight: int
    lasted: Duration
    """How long the record stayed."""
    requests: int
    failed: int
    abandoned: int = 0
    """Of those, given up on by their clients."""
    ready_after: Duration | None = None
    """When the policy first said that the step may be left; None: not while the record stayed."""
    last: str
    """The policy's last word at this step: continue, advance, extend, hold, rollback."""
    reason: str


class Replayed(Model):
    """One record under one policy."""

    source: str
    rollout: str
    release: int
    revision: str
    policy: str
    gate: str
    recorded: str
    """How the release really ended, where the record says so."""
    outcome: Ending
    after: Duration | None = None
    """From the first observation to the rollback, or to the last step's pass."""
    weight: int
    """The canary's weight then."""
    phase: str
    requests: int
    """Canary requests until then: users exposed to it."""
    failed: int
    """Of those, answered with an error."""
    abandoned: int = 0
    """Of those, given up on by their clients."""
    reason: str
    blame: tuple[str, ...] = ()
    steps: tuple[StepReplayed, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A record with the policy's verdict after each observation."""

    config: JudgeConfig
    history: History
    observations: tuple[Observation, ...]
    verdicts: tuple[Verdict, ...]


def judged(record: Recording, spec: RolloutSpec, *, detail: bool = True) -> Judged:
    """Ask the policy after every observation. Raises Invalid when the record has no walk to follow.

    Without `detail` verdicts come without their table of evidence, which is quicker.
    """
    record = placing.placed(record, [step.weight for step in spec.steps()])
    observations = effective(record.observations)
    if not observations:
        raise Invalid(
            f"{record.source}: the canary carried no traffic in it",
            remedy="name a time in which a release was on its way",
        )
    walk = recording.weights(record)
    config = JudgeConfig.of(on_walk(spec, walk), interval=_interval(observations))
    history = learn(record.past, config.statistical)
    return Judged(
        config, history, observations, tuple(replay(config, observations, history=history, detail=detail))
    )


def on_walk(spec: RolloutSpec, walk: Sequence[int]) -> RolloutSpec:
    """The policy on the record's weights: each takes limits and duration of the policy's step with that
    weight, or of the next lower one, or of the first."""
    steps = spec.steps()
    if tuple(step.weight for step in steps) == tuple(walk):
        return spec
    phases = []
    for number, weight in enumerate(walk, start=1):
        step = _step_for(steps, weight)
        phases.append(Phase(name=f"step-{number}", weight=weight, duration=step.duration, limits=step.limits))
    return spec.model_copy(update={"phases": tuple(phases)})


def _step_for(steps: Sequence[Step], weight: int) -> Step:
    lower = [step for step in steps if step.weight <= weight]
    return lower[-1] if lower else steps[0]


def summary(record: Recording, spec: RolloutSpec, policy: str) -> Replayed:
    """What the policy would have done, in one row and a row for each step."""
    found = judged(record, spec, detail=False)
    steps = tuple(_steps(found))
    end = _end(found, steps)
    verdict = found.verdicts[end]
    outcome = _outcome(found, steps, end)
    until = found.observations[: end + 1]
    place = found.config.step(found.observations[end].step)
    waiting = next((step for step in steps if step.ready_after is None), None)
    return Replayed(
        source=record.source,
        rollout=record.header.rollout,
        release=record.header.release,
        revision=found.observations[0].revision,
        policy=policy,
        gate=found.config.gate,
        recorded=record.header.outcome,
        outcome=outcome,
        after=_since(found, end) if outcome is not Ending.OPEN else None,
        weight=place.weight,
        phase=place.phase,
        requests=sum(observation.canary.arrived for observation in until),
        failed=sum(observation.canary.errors for observation in until),
        abandoned=sum(observation.canary.abandoned for observation in until),
        reason=waiting.reason if outcome is Ending.WAITS and waiting is not None else verdict.reason,
        blame=verdict.blame,
        steps=steps,
    )


def _steps(found: Judged) -> Iterator[StepReplayed]:
    """The steps of the walk that the record reached; the bake is none of them."""
    for place in found.config.steps[:-1]:
        pairs = [
            (observation, verdict)
            for observation, verdict in zip(found.observations, found.verdicts, strict=True)
            if observation.step == place.index
        ]
        if not pairs:
            continue
        passed = [observation.t1 for observation, verdict in pairs if verdict.kind is VerdictKind.ADVANCE]
        begun = pairs[0][0].t0
        yield StepReplayed(
            phase=place.phase,
            weight=place.weight,
            lasted=_rounded(pairs[-1][0].t1 - begun),
            requests=sum(observation.canary.arrived for observation, _ in pairs),
            failed=sum(observation.canary.errors for observation, _ in pairs),
            abandoned=sum(observation.canary.abandoned for observation, _ in pairs),
            ready_after=_rounded(passed[0] - begun) if passed else None,
            last=pairs[-1][1].kind.value,
            reason=pairs[-1][1].reason,
        )


def _end(found: Judged, steps: Sequence[StepReplayed]) -> int:
    """The observation that decided: the first rollback, else the last step's pass, else the last one."""
    for index, verdict in enumerate(found.verdicts):
        if verdict.kind is VerdictKind.ROLLBACK:
            return index
    top = len(found.config.steps) - 2
    for index, verdict in enumerate(found.verdicts):
        if verdict.kind is VerdictKind.ADVANCE and found.observations[index].step == top and steps:
            return index
    return len(found.verdicts) - 1


def _outcome(found: Judged, steps: Sequence[StepReplayed], end: int) -> Ending:
    if found.verdicts[end].kind is VerdictKind.ROLLBACK:
        return Ending.ROLLED_BACK
    if any(step.ready_after is None for step in steps[:-1]):
        return Ending.WAITS
    whole = len(steps) == len(found.config.steps) - 1
    return Ending.PROMOTED if whole and steps[-1].ready_after is not None else Ending.OPEN


def _since(found: Judged, end: int) -> timedelta:
    return _rounded(found.observations[end].t1 - found.observations[0].t0)


def _interval(observations: Sequence[Observation]) -> timedelta:
    """How often the record observed: the median length, so that one gap says nothing.

    To the second: what each observation was late by belongs to no interval that anybody wrote.
    """
    lengths = sorted(observation.t1 - observation.t0 for observation in observations)
    middle = lengths[len(lengths) // 2]
    return middle if middle < timedelta(seconds=2) else timedelta(seconds=round(middle.total_seconds()))


def _rounded(length: timedelta) -> timedelta:
    return timedelta(seconds=round(length.total_seconds(), 1))
