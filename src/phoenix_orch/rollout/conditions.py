"""Conditions in Kubernetes' standard form, for `kubectl wait --for=condition=Promoted rollout/NAME`. Pure.

All five are always there, so that waiting for `=False` works, too. A condition's time moves only when its
status does. https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/
api-conventions.md#typical-status-properties
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal, Protocol

from pydantic import PlainSerializer

from phoenix_orch.health_validator.observation import Category, VerdictKind
from phoenix_orch.kernel.told import Told
from phoenix_orch.rollout.spec import Model
from phoenix_orch.rollout.status import State, Status, under_judgement

Truth = Literal["True", "False", "Unknown"]
ConditionType = Literal["Progressing", "Healthy", "Promoted", "RolledBack"]
STALLED = "Stalled"
"""The condition that is not a matter of the machine: what nobody but a person can get out of the way."""

Second = Annotated[datetime, PlainSerializer(lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ"), when_used="json")]
"""A moment in UTC as Kubernetes writes it: to the second."""

_MOVING = frozenset(
    {
        State.INITIALIZING,
        State.STARTING,
        State.PROGRESSING,
        State.PROMOTING,
        State.BAKING,
        State.ROLLING_BACK,
        State.CANCELLING,
    }
)
_BLIND = frozenset({Category.NO_DATA, Category.NO_ANSWERS, Category.STALE, Category.ROUTING})


class Said(Protocol):
    """A verdict, in full or in short."""

    @property
    def kind(self) -> VerdictKind: ...
    @property
    def category(self) -> Category: ...
    @property
    def revision(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Condition(Model):
    """One statement about a rollout that is true, false or unknown."""

    type: str
    status: str
    """True, False or Unknown."""
    observed_generation: int = 0
    """The generation of the spec that it was said of."""
    last_transition_time: Second
    """When the status became what it is."""
    reason: str
    """One CamelCase word."""
    message: Told = ""


def conditions(
    status: Status,
    now: datetime,
    previous: Iterable[Condition] = (),
    *,
    verdict: Said | None = None,
    generation: int = 0,
) -> tuple[Condition, ...]:
    """What can be said of a rollout at `now`. `previous` gives the times of what has not changed.

    `verdict` is the last one; it counts only for the revision under judgement.
    """
    before = {condition.type: condition for condition in previous}
    said: Mapping[ConditionType, tuple[Truth, str]] = {
        "Progressing": _progressing(status),
        "Healthy": _healthy(status, verdict),
        "Promoted": _promoted(status),
        "RolledBack": _rolled_back(status),
    }
    at = now.replace(microsecond=0)
    of_the_machine = tuple(
        Condition(
            type=kind,
            status=truth,
            observed_generation=generation,
            last_transition_time=_since(before.get(kind), truth, at),
            reason=reason,
            message=_message(kind, status, verdict),
        )
        for kind, (truth, reason) in said.items()
    )
    kept = before.get(STALLED)
    if kept is None or kept.status != "True":  # which is not this function's to end
        kept = _going_on(_since(kept, "False", at), generation)
    return (*of_the_machine, kept)


def stalled(
    reason: str, message: str, now: datetime, before: Condition | None, *, generation: int
) -> Condition | None:
    """The condition for what is in the way now, `reason` empty: nothing. None: `before` says so already."""
    at = now.replace(microsecond=0)
    if reason:
        wanted = Condition(
            type=STALLED,
            status="True",
            observed_generation=generation,
            last_transition_time=_since(before, "True", at),
            reason=reason,
            message=message,
        )
    else:
        wanted = _going_on(_since(before, "False", at), generation)
        if before is None:
            return None  # it comes with the first decision
    same = before is not None and (before.status, before.reason, before.message) == (
        wanted.status,
        wanted.reason,
        wanted.message,
    )
    return None if same else wanted


def _going_on(since: datetime, generation: int) -> Condition:
    return Condition(
        type=STALLED,
        status="False",
        observed_generation=generation,
        last_transition_time=since,
        reason="GoingOn",
    )


def _since(before: Condition | None, truth: Truth, at: datetime) -> datetime:
    return before.last_transition_time if before is not None and before.status == truth else at


def _progressing(status: Status) -> tuple[Truth, str]:
    """Something is on its way without a person's help."""
    if status.obstacle is not None:
        return "False", status.obstacle.reason
    return ("True" if status.state in _MOVING else "False", status.state.value)


def _healthy(status: Status, verdict: Said | None) -> tuple[Truth, str]:
    """What serves users is as it should be; unknown where nobody can tell."""
    if status.state is State.INITIALIZING:
        return "Unknown", "Initializing"
    if status.state is State.ROLLING_BACK:
        return "False", "RollingBack"
    current = _current(status, verdict)
    if current is not None and current.kind is VerdictKind.ROLLBACK:
        return "False", "BadVerdict"
    if current is not None and current.kind is VerdictKind.HOLD:
        return ("Unknown", "NoEvidence") if current.category in _BLIND else ("False", "Held")
    if status.verification is not None and not status.verification.ok:
        return "False", "VerificationFailed"
    return "True", "Serving"


def _promoted(status: Status) -> tuple[Truth, str]:
    """The last release is through, its bake too."""
    if status.state is State.PROMOTED:
        return "True", "Promoted"
    if status.release == 0:
        return "Unknown", "NoRelease"
    return "False", status.state.value


def _rolled_back(status: Status) -> tuple[Truth, str]:
    """The last release was taken back: weight 0, the canary gone, the revision latched."""
    if status.state is State.ROLLED_BACK:
        return "True", _camel(status.cause.trigger) if status.cause else "RolledBack"
    return "False", status.state.value


def _current(status: Status, verdict: Said | None) -> Said | None:
    judged = under_judgement(status)
    return verdict if verdict is not None and judged is not None and verdict.revision == judged else None


def _message(kind: ConditionType, status: Status, verdict: Said | None) -> str:
    current = _current(status, verdict)
    if kind == "Healthy" and current is not None:
        return current.reason
    if kind == "RolledBack" and status.cause is not None:
        return status.cause.reason
    if kind == "Progressing" and status.obstacle is not None:
        return status.obstacle.message
    return status.message


def _camel(trigger: str) -> str:
    """`check/login` → `Check`, `crash-loop` → `CrashLoop`."""
    return "".join(word.capitalize() for word in trigger.partition("/")[0].split("-"))
