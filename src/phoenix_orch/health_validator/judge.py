"""The judge: one observation in, one verdict out, and a small state in between. Pure (rule R6).

    state = init(config, revision)
    for observation in observations:
        state, verdict = step(config, state, observation)

The state is at most 4 kB of JSON, whatever the traffic and however long the step. Storing it and going
on from the stored one gives the same verdicts, and so does replaying recorded observations. The rule
itself is behind `JudgeConfig.gate`; this module keeps the books that any rule needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from phoenix_orch.health_validator import literal, tally
from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.observation import Observation, Verdict, VerdictKind
from phoenix_orch.health_validator.tally import Tally
from phoenix_orch.rollout.spec import Step

__all__ = ["JudgeConfig", "JudgeState", "init", "step"]

_GATES: Mapping[str, Callable[[JudgeConfig, Step, Tally], literal.Opinion]] = {
    "literal": literal.judge,
    "statistical": literal.judge,
}


class JudgeState(BaseModel):
    """Everything the judge remembers about one release of one revision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    revision: str
    release: int = 0
    step: int = 0
    fingerprint: str = ""
    """The step and the limits that the tally was gathered for; empty before the first observation."""
    tally: Tally = Tally()
    rollback: Verdict | None = None
    """Given once, it stands for the rest of the release."""


def init(
    config: JudgeConfig,  # noqa: ARG001 - other gates read it
    revision: str,
    release: int = 0,
    *,
    history: History | None = None,  # noqa: ARG001 - other gates read it
) -> JudgeState:
    """The state before the first observation. A retry of the same revision is another `release`.

    `history`: what stable did before it, fixed for the release; None: nothing is known.
    """
    return JudgeState(revision=revision, release=release)


def step(config: JudgeConfig, state: JudgeState, observation: Observation) -> tuple[JudgeState, Verdict]:
    """Take one observation and say what it amounts to.

    Another revision, step or limit begins counting anew. An observation that does not end after the
    last one changes nothing: the verdict is the one given then.
    """
    if observation.revision != state.revision:
        state = init(config, observation.revision, state.release)
    if state.rollback is not None:
        again = state.rollback.model_copy(update={"at": observation.t1, "step": observation.step})
        return state, again
    if state.tally.at is None or observation.t1 > state.tally.at:
        state = _counted(config, state, observation)
    place = config.step(state.step)
    verdict = _verdict(config, place, state, observation.t1)
    if verdict.kind is VerdictKind.ROLLBACK and (config.keep_rollback or config.is_bake(place)):
        empty = Tally(at=state.tally.at)
        state = state.model_copy(update={"rollback": verdict, "tally": empty})
    return state, verdict


def _counted(config: JudgeConfig, state: JudgeState, observation: Observation) -> JudgeState:
    place = config.step(observation.step)
    fingerprint = config.fingerprint(place)
    books = state.tally if fingerprint == state.fingerprint else tally.next_step(state.tally)
    return state.model_copy(
        update={
            "step": observation.step,
            "fingerprint": fingerprint,
            "tally": tally.add(config, place, books, observation),
        }
    )


def _verdict(config: JudgeConfig, place: Step, state: JudgeState, now: datetime) -> Verdict:
    books = state.tally
    opinion = _GATES[config.gate](config, place, books)
    return Verdict(
        kind=opinion.kind,
        revision=state.revision,
        step=state.step,
        at=books.at or now,
        reason=opinion.reason,
        blame=opinion.blame,
        evidence=opinion.evidence,
        requests=books.total.canary.requests,
        observed_for=books.observed_for,
    )
