"""Promotion: each step from what stable says alone."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from tests.unit.deployment_setting import (
    budget,
    canary,
    complete,
    deployment,
    merged,
    replica_set,
    service,
    template,
)

from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.canary import derived, with_images
from phoenix_orch.workload.deployment.promotion import (
    Progress,
    Promotion,
    fresh,
    promote,
    promoted_template,
    standing,
)
from phoenix_orch.workload.deployment.revision import Revision, revision, running, template_hash
from phoenix_orch.workload.deployment.selectors import Surroundings, as_stable, identity

STABLE = deployment()
BEFORE = template_hash(STABLE["spec"]["template"])
AROUND = Surroundings([service()], [budget("shop", {"app": "shop"})])


def revision_of(stable: dict[str, Any], other: dict[str, Any]) -> Revision:
    return revision(as_stable(other["spec"]["template"], identity(stable, other, AROUND)), {})


def step(stable: dict[str, Any], other: dict[str, Any], expected: str = BEFORE) -> Promotion:
    found = revision_of(STABLE, other)
    return promote(stable, other, found, expected=expected, rollout="shop", around=AROUND)


def patched(other: dict[str, Any]) -> dict[str, Any]:
    promotion = step(STABLE, other)
    assert promotion.patch is not None
    after: dict[str, Any] = merged(STABLE, promotion.patch)
    after["metadata"]["generation"] += 1
    return after


def test_stable_takes_over_what_the_canary_runs_and_nothing_of_the_canary_itself() -> None:
    pods = with_images(STABLE["spec"]["template"], {"shop": "shop:2"})
    other = derived(STABLE, name="shop-canary", rollout="shop", template=pods, around=AROUND)
    after = patched(other)
    pods = after["spec"]["template"]
    assert pods["spec"]["containers"] == [{"name": "shop", "image": "shop:2"}]
    assert pods["metadata"]["labels"] == {"app": "shop"}
    assert set(pods["metadata"]["annotations"]) == {marks.REVISION, marks.TEMPLATE}
    assert running(pods, {}) == revision_of(STABLE, other).id
    assert after["spec"]["replicas"] == STABLE["spec"]["replicas"]
    cause = after["metadata"]["annotations"][marks.CHANGE_CAUSE]
    assert "shop:2" in cause
    assert revision_of(STABLE, other).id in cause


def test_what_the_canary_has_not_goes() -> None:
    stable = deployment(pods=template(volumes=[{"name": "old", "emptyDir": {}}], nodeSelector={"a": "b"}))
    other = canary(nodeSelector={"c": "d"})
    found = revision_of(stable, other)
    before = template_hash(stable["spec"]["template"])
    promotion = promote(stable, other, found, expected=before, rollout="shop")
    spec = merged(stable, promotion.patch)["spec"]["template"]["spec"]
    assert "volumes" not in spec
    assert spec["nodeSelector"] == {"c": "d"}


def test_the_same_release_of_another_configuration_rolls_the_pods() -> None:
    """The template differs in nothing but the revision that is written on it."""
    other = canary("shop:1")
    after = patched(other)
    assert template_hash(after["spec"]["template"]) == BEFORE
    assert after["spec"]["template"] != STABLE["spec"]["template"]


def test_a_restart_of_stable_is_kept_and_one_of_the_canary_is_not() -> None:
    stable, other = deepcopy(STABLE), canary()
    stable["spec"]["template"]["metadata"]["annotations"] = {marks.RESTARTED_AT: "stable's"}
    other["spec"]["template"]["metadata"]["annotations"] = {marks.RESTARTED_AT: "canary's", "a": "b"}
    found = promoted_template(stable, other, revision_of(stable, other))["metadata"]["annotations"]
    assert (found[marks.RESTARTED_AT], found["a"]) == ("stable's", "b")


def test_it_is_waited_for_until_all_of_the_new_template_are_available() -> None:
    other = canary()
    after = patched(other)
    waiting = step(after, other)
    assert (waiting.patch, waiting.done) == (None, False)
    assert waiting.standing is not None
    assert waiting.standing.progress is Progress.UNSEEN
    done = step(complete(after), other)
    assert done.done
    assert done.standing is not None
    assert done.standing.complete


def test_the_same_patch_is_made_again_after_a_crash_and_none_after_it_was_written() -> None:
    other = canary()
    assert step(STABLE, other) == step(deepcopy(STABLE), other)
    assert step(patched(other), other).patch is None


def test_a_template_that_somebody_else_changed_is_not_overwritten() -> None:
    edited = deployment(pods=template("shop:9"))
    refused = step(edited, canary()).refusal
    assert refused is not None
    assert refused.reason == "StableChanged"


def test_what_a_git_tool_promoted_is_promoted() -> None:
    """It has no mark of ours; the template says it all."""
    given = deployment(pods=template("shop:2"))
    assert step(complete(given), canary()).done
    assert not step(given, canary()).done


def test_the_same_template_with_other_values_is_not_promoted_without_the_mark() -> None:
    assert step(complete(STABLE), canary("shop:1")).patch is not None


def test_a_promotion_that_makes_no_progress_is_told() -> None:
    other = canary()
    stuck = complete(patched(other))
    stuck["status"] |= {
        "updatedReplicas": 1,
        "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
    }
    found = step(stuck, other)
    assert found.refusal is not None
    assert found.refusal.reason == "ProgressDeadlineExceeded"
    assert "600 s" in found.refusal.message
    assert not found.done


def test_labels_by_which_stable_is_reached_are_never_lost() -> None:
    stable = deployment(pods=template(labels={"app": "shop", "tier": "web"}), selector={"app": "shop"})
    around = Surroundings([service(selector={"tier": "web"})])
    other = canary()
    before = template_hash(stable["spec"]["template"])
    kept = promote(
        stable,
        other,
        revision(as_stable(other["spec"]["template"], identity(stable, other, around)), {}),
        expected=before,
        rollout="shop",
        around=around,
    )
    assert merged(stable, kept.patch)["spec"]["template"]["metadata"]["labels"] == {
        "app": "shop",
        "tier": "web",
    }


@pytest.mark.parametrize(
    ("status", "progress"),
    [
        (
            {
                "observedGeneration": 1,
                "updatedReplicas": 3,
                "replicas": 3,
                "availableReplicas": 3,
                "readyReplicas": 3,
            },
            Progress.UNSEEN,
        ),
        (
            {
                "observedGeneration": 2,
                "updatedReplicas": 1,
                "replicas": 4,
                "availableReplicas": 3,
                "readyReplicas": 3,
            },
            Progress.UPDATING,
        ),
        (
            {
                "observedGeneration": 2,
                "updatedReplicas": 3,
                "replicas": 4,
                "availableReplicas": 4,
                "readyReplicas": 4,
            },
            Progress.LEAVING,
        ),
        (
            {
                "observedGeneration": 2,
                "updatedReplicas": 3,
                "replicas": 3,
                "availableReplicas": 2,
                "readyReplicas": 3,
            },
            Progress.STARTING,
        ),
        (
            {
                "observedGeneration": 2,
                "updatedReplicas": 3,
                "replicas": 3,
                "availableReplicas": 3,
                "readyReplicas": 3,
            },
            Progress.COMPLETE,
        ),
    ],
)
def test_available_alone_proves_nothing(status: dict[str, Any], progress: Progress) -> None:
    found = deployment()
    found["metadata"]["generation"] = 2
    found["status"] = {**status, "conditions": [{"type": "Available", "status": "True"}]}
    assert standing(found).progress is progress


def test_only_pods_of_the_present_template_are_fresh() -> None:
    after = patched(canary())
    old = replica_set(STABLE, 1, STABLE["spec"]["template"], available=3)
    new = replica_set(STABLE, 2, after["spec"]["template"], available=1)
    stranger = replica_set(deployment("cart"), 1, after["spec"]["template"], available=9)
    assert fresh(after, [old, new, stranger]) == 1
