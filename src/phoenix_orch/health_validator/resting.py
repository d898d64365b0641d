"""What stable does between releases: the past that the next release is judged against. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from phoenix_orch.health_validator import history
from phoenix_orch.health_validator.config import PATIENCE
from phoenix_orch.health_validator.observation import Arm, Observation, Quality


def at_rest(observation: Observation) -> Observation:
    """An observation of stable alone, as the log keeps it: in stable's place, with nobody to judge."""
    return _nobody_beside(observation, observation.canary)


def past(observations: Iterable[Observation], stable: str | None = None) -> tuple[Observation, ...]:
    """What is known of stable from earlier observations, those of other releases among them.

    Of each the arm that `history.learn` would take: that of the revision `stable`, also from when it was
    a canary or was baking; where there is none, the arm that was stable then.
    """
    arms = [(observation, history.usual(observation, stable)) for observation in observations]
    return tuple(_nobody_beside(observation, arm) for observation, arm in arms if arm is not None)


def _nobody_beside(observation: Observation, stable: Arm) -> Observation:
    return observation.model_copy(
        update={
            "revision": "",
            "step": 0,
            "weight_applied": 0,
            "canary": Arm(revision="", quality=Quality.GAP),
            "stable": stable,
        }
    )


def is_rest(observation: Observation) -> bool:
    return not observation.revision


def is_continued(last: datetime, now: datetime, interval: timedelta) -> bool:
    """Watching went on. After a pause of it counting begins anew: one block of hours tells nothing of how
    counts vary from minute to minute."""
    return now - last <= PATIENCE * interval
