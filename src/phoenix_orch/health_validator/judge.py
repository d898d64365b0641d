"""The judge: one observation in, one verdict out, and a small state in between. Pure (rule R6).

    state = init(config, revision, history=history)
    for observation in observations:
        state, verdict = step(config, state, observation)

The state is at most 4 kB of JSON, whatever the traffic and however long the step. Storing it and going
on from the stored one gives the same verdicts, and so does replaying recorded observations. The rule
itself is behind `JudgeConfig.gate`; this module keeps what any rule needs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, PlainValidator

from phoenix_orch.health_validator import books, counting, literal, tally
from phoenix_orch.health_validator.books import Books
from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.observation import Observation, Verdict, VerdictKind, complete
from phoenix_orch.health_validator.statistical import Judgement
from phoenix_orch.health_validator.tally import Tally

__all__ = ["History", "JudgeConfig", "JudgeState", "init", "step"]

_ROLLBACK = VerdictKind.ROLLBACK
"""Looked up once: in Python 3.11 every look-up of an enum's member by its class is a call."""

_MS = timedelta(milliseconds=1)


def _stored(value: Any) -> Books | None:
    if value is None or isinstance(value, Books):
        return value
    try:
        return books.decode(value)
    except (LookupError, TypeError, ArithmeticError, StopIteration) as error:
        raise ValueError(f"these are no books of the judge: {error!r}") from None


Kept = Annotated[
    Books | None,
    PlainValidator(_stored),
    PlainSerializer(lambda value: None if value is None else books.encode(value), when_used="json"),
]


def _short(verdict: Verdict | None) -> dict[str, Any] | None:
    return None if verdict is None else verdict.model_dump(mode="json", exclude_defaults=True)


def _unless_empty(kept: Tally) -> dict[str, Any] | None:
    return None if kept == Tally() else kept.model_dump(mode="json")


class JudgeState(BaseModel):
    """Everything the judge remembers about one release of one revision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[3] = 3
    revision: str
    release: int = 0
    step: int = 0
    history: History = History()
    """What stable did before the release."""
    fingerprint: str = ""
    """The step and the limits that the tally was gathered for; empty before the first observation."""
    tally: Annotated[
        Tally,
        BeforeValidator(lambda kept: Tally() if kept is None else kept),
        PlainSerializer(_unless_empty, when_used="json"),
    ] = Tally()
    """Of the literal gate."""
    books: Kept = None
    """Of the statistical gate."""
    rollback: Annotated[Verdict | None, PlainSerializer(_short, when_used="json")] = None
    """Given once, it stands for the rest of the release."""

    @property
    def at(self) -> datetime | int | None:
        """End of the last observation, as the gate keeps it."""
        return self.books.at if self.books is not None else self.tally.at


def init(
    config: JudgeConfig,
    revision: str,
    release: int = 0,
    *,
    history: History | None = None,
) -> JudgeState:
    """The state before the first observation. A retry of the same revision is another `release`.

    `history`: what stable did before it, fixed for the release; None: nothing is known.
    """
    known = history if history is not None and config.gate == "statistical" else History()
    return JudgeState(revision=revision, release=release, history=known)


def step(
    config: JudgeConfig, state: JudgeState, observation: Observation, *, detail: bool = True
) -> tuple[JudgeState, Verdict]:
    """Take one observation and say what it amounts to.

    Without `detail` the same verdict comes without its table of evidence and the intervals in it, unless
    it is a rollback: a replay of a million observations needs no more.

    Another revision or other limits begin counting anew. An observation that does not end after the last
    one changes nothing: the verdict is the one given then.
    """
    if observation.revision != state.revision:
        state = init(config, observation.revision, state.release, history=state.history)
    if state.rollback is not None:
        again = state.rollback.model_copy(update={"at": observation.t1, "step": observation.step})
        return state, again
    if config.gate == "statistical":
        state = _counted(config, state, observation)
        verdict = _judged(config, state, observation.t1, detail=detail)
    else:
        state = _tallied(config, state, observation)
        verdict = _judged_literally(config, state, observation.t1)
    if verdict.kind is _ROLLBACK:
        place = config.step(state.step)
        if config.keep_rollback or config.is_bake(place):
            verdict = verdict.rounded()
            empty = Tally(at=state.tally.at)
            state = state.model_copy(update={"rollback": verdict, "tally": empty, "books": None})
    return state, verdict


# -- the statistical gate --------------------------------------------------------------------------


def _counted(config: JudgeConfig, state: JudgeState, observation: Observation) -> JudgeState:
    kept = state.books
    if kept is not None and kept.structure != config.structure:
        kept = None
    if kept is not None and observation.t1.timestamp() * 1000 < kept.at + 0.5:
        return state
    if kept is None:
        kept = counting.begin(config, state.history, observation)
    elif observation.step != state.step:
        kept = counting.next_step(config, state.history, kept, state.step, observation.step)
    kept = counting.add_observation(config, state.history, kept, observation)
    values = {
        "version": state.version,
        "release": state.release,
        "step": observation.step,
        "history": state.history,
        "fingerprint": state.fingerprint,
        "tally": state.tally,
        "books": kept,
        "rollback": state.rollback,
        "revision": state.revision,
    }
    return complete(JudgeState, values)


def _judged(config: JudgeConfig, state: JudgeState, now: datetime, *, detail: bool) -> Verdict:
    kept = state.books
    assert kept is not None
    rules = config.rules(state.step)
    ledger = counting.closed(config, kept, state.step)
    look = Judgement(config, rules, kept, ledger)
    opinion = look.opinion()
    shown = detail or opinion.kind is _ROLLBACK
    values = {
        "blame": opinion.blame,
        "evidence": look.evidence() if shown else (),
        "requests": ledger.requests,
        "observed_for": ledger.observed_ms * _MS,
        "category": opinion.category,
        "tier": opinion.tier,
        "e": look.e,
        "e_threshold": rules.threshold,
        "counterfactual": look.counterfactual(),
        "kind": opinion.kind,
        "revision": state.revision,
        "step": state.step,
        "at": now,
        "reason": opinion.reason,
    }
    return complete(Verdict, values)


# -- the literal gate ------------------------------------------------------------------------------


def _tallied(config: JudgeConfig, state: JudgeState, observation: Observation) -> JudgeState:
    if state.tally.at is not None and observation.t1 <= state.tally.at:
        return state
    place = config.step(observation.step)
    fingerprint = config.fingerprint(place)
    kept = state.tally if fingerprint == state.fingerprint else tally.next_step(state.tally)
    return state.model_copy(
        update={
            "step": observation.step,
            "fingerprint": fingerprint,
            "tally": tally.add(config, place, kept, observation),
        }
    )


def _judged_literally(config: JudgeConfig, state: JudgeState, now: datetime) -> Verdict:
    kept = state.tally
    opinion = literal.judge(config, config.step(state.step), kept)
    return Verdict(
        kind=opinion.kind,
        revision=state.revision,
        step=state.step,
        at=kept.at or now,
        reason=opinion.reason,
        blame=opinion.blame,
        evidence=opinion.evidence,
        requests=kept.total.canary.requests,
        observed_for=kept.observed_for,
        category=opinion.category,
    )
