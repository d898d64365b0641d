"""The demo's plan: four releases that differ in nothing but their fault, and a fair stream of requests."""

from __future__ import annotations

import math
import random

import pytest

from phoenix_orch.demo.load import quantile, request_of
from phoenix_orch.demo.scenario import (
    BAKE,
    DEFAULT_RATE,
    DEFAULT_SPEED,
    RELEASES,
    check_pace,
    chosen,
    configuration,
    min_requests,
)
from phoenix_orch.demo.service import Fault, Request, Shop
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.rollout.spec import GUIDE_PHASES
from phoenix_orch.rollout.status import Outcome


def test_one_good_release_comes_before_three_bad_ones() -> None:
    assert [release.expected for release in RELEASES] == [Outcome.PROMOTED] + 3 * [Outcome.ROLLED_BACK]
    assert len({release.version for release in RELEASES}) == len(RELEASES)


def test_releases_are_chosen_by_name_in_the_order_of_the_demo() -> None:
    assert [release.name for release in chosen(["crash", "good"])] == ["good", "crash"]
    assert chosen([]) == RELEASES


def test_an_unknown_release_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Invalid, match="no demo release 'fast'") as refused:
        chosen(["fast"])
    assert "good, errors, slow, crash" in refused.value.remedy


@pytest.mark.parametrize(("speed", "rate"), [(0.0, 300.0), (81.0, 400.0), (20.0, 0.0), (20.0, 5000.0)])
def test_a_demo_that_could_show_nothing_is_refused(speed: float, rate: float) -> None:
    with pytest.raises(Invalid):
        check_pace(speed, rate)


def test_the_default_pace_gives_enough_to_judge_on() -> None:
    check_pace(DEFAULT_SPEED, DEFAULT_RATE)


@pytest.mark.parametrize(("speed", "rate", "least"), [(1.0, 400.0, 41), (30.0, 400.0, 28), (80.0, 400.0, 10)])
def test_more_evidence_is_wanted_where_there_is_more(speed: float, rate: float, least: int) -> None:
    check_pace(speed, rate)
    assert min_requests(speed, rate) == least


def test_the_configuration_has_the_guides_phases_and_every_kind_of_watch() -> None:
    file = PhoenixFile.model_validate_json(configuration(port=41234, speed=20.0, rate=400.0))
    (rollout,) = file.effective_rollouts().values()
    assert file.router.port == 41234
    assert rollout.phases == GUIDE_PHASES
    assert (rollout.policy.bake, rollout.policy.min_requests) == (BAKE, 41)
    assert [check.name for check in rollout.checks] == ["welcome"]
    assert [metric.counter for metric in rollout.evidence.business] == ["orders_total"]
    assert rollout.verify.logs.bad
    assert rollout.verify.critical_paths
    assert file.services["shop"].template().env == {}


@pytest.mark.parametrize("stride", [1, 2, 5, 20, 40])
def test_any_regular_share_of_the_requests_holds_orders(stride: int) -> None:
    """A router at 5 % sends each twentieth request to the canary: ten of them are never all views."""
    for start in range(0, 2000, 7):
        orders = sum(request_of(start + stride * n).startswith(b"POST") for n in range(10))
        assert 2 <= orders <= 8


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([1.0], 0.99, 1.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), ([1.0, 2.0], 0.95, 2.0)],
)
def test_quantiles_are_nearest_rank(values: list[float], share: float, expected: float | None) -> None:
    assert quantile(values, share) == expected


@pytest.mark.parametrize("text", ["errors", "errors:", "fire:1", "slow:much"])
def test_an_unknown_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"fault|convert"):
        Fault.parse(text)


def served(fault: str, count: int = 4000) -> list[tuple[int, float]]:
    shop = Shop("1", Fault.parse(fault), random.Random(7))
    answers = [shop.answer(Request("GET", "/", keep_alive=True)) for _ in range(count)]
    return [(status, seconds) for status, _, seconds in answers]


def test_a_good_version_is_quick_and_never_fails() -> None:
    answers = served("")
    assert {status for status, _ in answers} == {200}
    assert max(seconds for _, seconds in answers) <= 0.05


def test_the_errors_version_fails_its_share_and_is_as_quick() -> None:
    answers = served("errors:0.2")
    failed = sum(status == 500 for status, _ in answers) / len(answers)
    assert 0.17 < failed < 0.23
    assert max(seconds for _, seconds in answers) <= 0.05


def test_the_hanging_version_never_answers_its_share() -> None:
    waits = [seconds for _, seconds in served("hang:0.3")]
    assert 0.25 < waits.count(math.inf) / len(waits) < 0.35
    assert max(seconds for seconds in waits if seconds < math.inf) <= 0.05


def test_the_slow_version_is_slow_in_the_tail_alone() -> None:
    seconds = sorted(seconds for _, seconds in served("slow:0.15"))
    assert quantile(seconds, 0.5) < 0.02  # type: ignore[operator]
    assert quantile(seconds, 0.95) > 0.1  # type: ignore[operator]


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_a_fault_spares_health_and_metrics(path: str) -> None:
    shop = Shop("1", Fault.parse("errors:1"), random.Random(7))
    assert shop.answer(Request("GET", path, keep_alive=True))[0] == 200
