"""What people's hands on Deployments ask for."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit import deployment_setting as setting

from phoenix_orch.orchestrator.cluster.following import standing
from phoenix_orch.orchestrator.cluster.wish import Standing, Wish, wish
from phoenix_orch.rollout.status import ACTIVE, RESTING, CommandKind, State, Status
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.scene import Scene

RELEASING = {"stable": "a", "canary": "b"}


def status(state: State, **fields: str | None) -> Status:
    return Status(state=state, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "target"),
    [
        (Standing("a"), "a"),
        (Standing("a", "a", True), "a"),
        (Standing("a", "b", True), "b"),
        (Standing("a", "b"), "a"),
    ],
    ids=["no canary", "the same", "another that wants pods", "another without pods"],
)
def test_a_canary_that_differs_and_wants_pods_is_a_release(found: Standing, target: str) -> None:
    assert wish(status(State.IDLE, stable="a"), "a", found) == Wish(target)


@pytest.mark.parametrize("state", [*sorted(ACTIVE), State.ROLLING_BACK, State.ROLLED_BACK])
def test_what_phoenix_scaled_to_zero_is_still_wanted(state: State) -> None:
    """Otherwise a taken back release would be another one's beginning."""
    assert wish(status(state, **RELEASING), "b", Standing("a", "b")) == Wish("b")


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.ROLLED_BACK])
def test_what_an_undo_of_stable_took_back_ends_as_a_rollback(state: State) -> None:
    """In the bake the revision before was wanted; the canary's Deployment is as it was."""
    assert wish(status(state, **RELEASING), "a", Standing("a", "b")) == Wish("b")
    assert wish(status(state, **RELEASING), "b", Standing("a")) == Wish("a")  # the canary was deleted


def test_after_a_promotion_the_canary_of_before_asks_for_nothing() -> None:
    """Stable was taken back by hand; the canary's Deployment still has the template of the release."""
    found = wish(status(State.PROMOTED, stable="b"), "b", Standing("a", "b"))
    assert found == Wish("a", adopt="a")


@pytest.mark.parametrize("state", sorted(RESTING))
def test_at_rest_stable_is_what_somebody_made_it(state: State) -> None:
    assert wish(status(state, stable="a"), "a", Standing("c")).adopt == "c"


@pytest.mark.parametrize("state", sorted(ACTIVE - {State.PROMOTING}))
def test_during_a_release_a_change_of_stable_is_an_abort(state: State) -> None:
    assert wish(status(state, **RELEASING), "b", Standing("c", "b", True)).say is CommandKind.ABORT
    assert wish(status(state, **RELEASING), "b", Standing("a", "b", True)).say is None


def test_a_promotion_is_no_change_by_others() -> None:
    promoting = status(State.PROMOTING, **RELEASING)
    assert wish(promoting, "b", Standing("b", "b", True)) == Wish("b")
    assert wish(promoting, "b", Standing("c", "b", True)).say is CommandKind.ABORT


def test_an_undo_during_the_bake_takes_the_new_version_back() -> None:
    baking = status(State.BAKING, stable="b", previous="a")
    assert wish(baking, "b", Standing("a", "b")) == Wish("a")
    assert wish(baking, "b", Standing("c", "b")).say is CommandKind.END_BAKE
    assert wish(baking, "b", Standing("b", "b")) == Wish("b")


def test_while_it_is_taken_back_stable_may_still_run_it() -> None:
    leaving = status(State.ROLLING_BACK, **RELEASING)
    assert wish(leaving, "b", Standing("b", "b")).adopt is None
    assert wish(leaving, "b", Standing("c", "b")).adopt == "c"


def test_the_first_revision_is_what_stable_runs_whatever_the_canary_says() -> None:
    assert wish(status(State.INITIALIZING), "", Standing("a", "b", True)) == Wish("a")


def applied(image: str, replicas: int, sized_for: str | None = None) -> dict[str, Any]:
    """A canary's Deployment; `sized_for`: the image of the release that Phoenix sized it for."""
    found = setting.canary(image)
    found["spec"]["replicas"] = replicas
    if sized_for is not None:
        before = Scene(setting.deployment(), setting.canary(sized_for)).canary_template()
        assert before is not None
        found["metadata"]["annotations"] = {marks.FULL_SIZE: f"3/{before.revision}"}
    return found


@pytest.mark.parametrize(
    ("canary", "asks"),
    [
        (applied("shop:2", 1), True),
        (applied("shop:2", 0), False),
        (applied("shop:2", 0, sized_for="shop:2"), False),
        (applied("shop:3", 0, sized_for="shop:2"), True),
        (applied("shop:2", 1, sized_for="shop:2"), True),
    ],
    ids=["new", "its owner's zero", "ended", "another after one that ended", "scaled up by hand"],
)
def test_the_zero_that_phoenix_wrote_keeps_no_later_release_away(canary: dict[str, Any], asks: bool) -> None:
    """Manifests leave `replicas` out, as the guide of Git tools asks."""
    assert standing(Scene(setting.deployment(), canary)).canary_asks is asks
