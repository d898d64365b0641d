"""The rollout spec: the guide's phases as defaults, the walk they make, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from phoenix_orch.rollout.spec import GUIDE_PHASES, Limits, Phase, RolloutSpec

MINUTES = {n: timedelta(minutes=n) for n in (1, 5, 10, 15, 30)}
MS = timedelta(milliseconds=1)


def test_the_default_phases_are_the_guides_exactly() -> None:
    assert RolloutSpec().phases == GUIDE_PHASES
    found = [
        (step.phase, step.weight, step.duration, step.limits.error_rate, step.limits.latency_p95)
        for step in RolloutSpec().steps()
    ]
    assert found == [
        ("initial", 5, MINUTES[10], 0.001, 100 * MS),
        ("expanded", 20, MINUTES[15], 0.005, 200 * MS),
        ("full", 40, MINUTES[5], 0.005, 200 * MS),
        ("full", 60, MINUTES[5], 0.005, 200 * MS),
        ("full", 80, MINUTES[5], 0.005, 200 * MS),
        ("full", 100, MINUTES[5], 0.005, 200 * MS),
    ]
    assert [step.index for step in RolloutSpec().steps()] == list(range(6))


def test_the_default_policy_never_passes_on_silence() -> None:
    policy = RolloutSpec().policy
    assert (policy.no_data, policy.on_hold_timeout, policy.on_failure) == ("hold", "rollback", "rollback")
    assert (policy.bake, policy.progress_deadline) == (MINUTES[30], MINUTES[10])


@pytest.mark.parametrize(
    ("phases", "weights"),
    [
        ([{"name": "a", "weight": 1, "duration": "1m"}], [1]),
        ([{"name": "a", "step": 100, "every": "1m"}], [100]),
        ([{"name": "a", "step": 30, "every": "1m"}], [30, 60, 90, 100]),
        ([{"name": "a", "step": 30, "every": "1m", "maxWeight": 50}], [30, 50]),
        (
            [
                {"name": "a", "step": 40, "every": "1m", "maxWeight": 40},
                {"name": "b", "weight": 60, "duration": "1m"},
            ],
            [40, 60],
        ),
        (
            [{"name": "a", "weight": 50, "duration": "0s"}, {"name": "b", "step": 20, "every": "1m"}],
            [50, 70, 90, 100],
        ),
        ([{"name": "a", "weight": 99, "duration": "1m"}, {"name": "b", "step": 1, "every": "1m"}], [99, 100]),
        (
            [{"name": "a", "weight": 5, "duration": "1m"}, {"name": "b", "weight": 100, "duration": "1m"}],
            [5, 100],
        ),
    ],
)
def test_steps_of(phases: list[dict[str, Any]], weights: list[int]) -> None:
    spec = RolloutSpec.model_validate({"phases": phases})
    assert [step.weight for step in spec.steps()] == weights


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "at least 1 item"),
        ([{"name": "a"}], "either 'weight' and 'duration', or 'step' and 'every'"),
        ([{"name": "a", "weight": 5}], "either"),
        ([{"name": "a", "weight": 5, "every": "1m"}], "either"),
        ([{"name": "a", "weight": 5, "duration": "1m", "step": 5, "every": "1m"}], "either"),
        ([{"name": "a", "weight": 0, "duration": "1m"}], "greater than or equal to 1"),
        ([{"name": "a", "weight": 101, "duration": "1m"}], "less than or equal to 100"),
        ([{"name": "a", "step": 0, "every": "1m"}], "greater than or equal to 1"),
        ([{"name": "A", "weight": 5, "duration": "1m"}], "pattern"),
        ([{"name": "a", "weight": 5, "duration": "1m", "wieght": 6}], "Extra inputs"),
        ([{"name": "a", "weight": 5, "duration": "soon"}], "is not a duration"),
        ([{"name": "a", "weight": 5, "duration": "1m", "limits": {"errorRate": 0.1}}], "is not a share"),
        (
            [{"name": "a", "weight": 5, "duration": "1m"}, {"name": "a", "weight": 6, "duration": "1m"}],
            "same name",
        ),
        (
            [{"name": "a", "weight": 5, "duration": "1m"}, {"name": "b", "weight": 5, "duration": "1m"}],
            "not above the 5 before it",
        ),
        (
            [{"name": "a", "step": 50, "every": "1m"}, {"name": "b", "step": 50, "every": "1m"}],
            "already reached 100",
        ),
        (
            [{"name": "a", "step": 50, "every": "1m"}, {"name": "b", "weight": 100, "duration": "1m"}],
            "not above the 100 before it",
        ),
        ([{"name": "a", "weight": 5, "duration": "1m", "maxWeight": 9}], "end of a staircase"),
        (
            [
                {"name": "a", "weight": 50, "duration": "1m"},
                {"name": "b", "step": 5, "every": "1m", "maxWeight": 50},
            ],
            "maxWeight 50 is not above the 50 before it",
        ),
    ],
)
def test_a_walk_that_makes_no_sense_is_refused(phases: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RolloutSpec.model_validate({"phases": phases})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checks": [{"name": "a"}]}, "exactly one of 'http' and 'exec'"),
        ({"checks": [{"name": "a", "http": {"url": "http://u"}, "exec": {"command": ["c"]}}]}, "exactly one"),
        ({"checks": [{"name": "a", "http": {"url": "http://u"}, "interval": "0s"}]}, "above 0"),
        ({"checks": [{"name": "a", "http": {"url": "http://u"}}] * 2}, "two checks have the same name"),
        ({"checks": [{"name": "a", "exec": {"command": []}}]}, "at least 1 item"),
        ({"evidence": {"interval": "2m"}}, "no longer than 'window'"),
        ({"evidence": {"interval": "0s"}}, "above 0"),
        ({"evidence": {"business": [{"name": "a", "counter": "orders_total"}]}}, "minPerRequest"),
        ({"evidence": {"business": [{"name": "a", "counter": "9", "minPerRequest": 1}]}}, "pattern"),
        ({"policy": {"noData": "pass"}}, "'hold' or 'rollback'"),
        ({"policy": {"minRequests": 0}}, "greater than or equal to 1"),
        ({"verify": {"logs": {"bad": ["("]}}}, "is not a regular expression"),
    ],
)
def test_other_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RolloutSpec.model_validate(changes)


def test_the_spec_survives_its_own_json_with_the_keys_of_the_file() -> None:
    spec = RolloutSpec.model_validate(
        {
            "phases": [
                {
                    "name": "a",
                    "weight": 5,
                    "duration": "90s",
                    "limits": {"latencyP95": "100ms", "memory": "1Gi"},
                }
            ],
            "checks": [{"name": "a", "http": {"url": "{canary}/x"}}],
            "policy": {"onHoldTimeout": "pause", "bake": "0s"},
        }
    )
    text = spec.model_dump_json()
    assert RolloutSpec.model_validate_json(text) == spec
    for word in (
        '"duration":"1m30s"',
        '"latencyP95":"100ms"',
        '"memory":"1Gi"',
        '"onHoldTimeout":"pause"',
        '"bake":"0s"',
    ):
        assert word in text


def test_limits_take_python_names_too() -> None:
    assert Limits(error_rate="1%", latency_p99="2s").error_rate == 0.01
    assert Phase(name="a", weight=5, duration=MINUTES[1]).limits == Limits()


def test_a_spec_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RolloutSpec().policy.bake = MINUTES[1]
