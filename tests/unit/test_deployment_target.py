"""Which workloads are refused, and whose a Deployment is."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.deployment_setting import deployment, merged

from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.refusal import Refusal
from phoenix_orch.workload.deployment.target import (
    Holder,
    claim,
    foreign,
    holder,
    refuse_kind,
    unclaim,
    unfit,
)

MINE, OTHER = Holder("shop", "uid-1"), Holder("other", "uid-2")


def owned(api: str, kind: str) -> dict[str, Any]:
    found = deployment()
    found["metadata"]["ownerReferences"] = [
        {"apiVersion": api, "kind": kind, "name": "it", "uid": "u", "controller": True}
    ]
    return found


def annotated(key: str) -> dict[str, Any]:
    found = deployment()
    found["metadata"]["annotations"] = {key: "1"}
    return found


def hashed() -> dict[str, Any]:
    found = deployment()
    found["spec"]["template"]["metadata"]["labels"]["rollouts-pod-template-hash"] = "abc"
    return found


def made_by_us() -> dict[str, Any]:
    found = deployment()
    found["metadata"]["labels"] = {marks.MANAGED_BY: marks.MANAGER, marks.ROLLOUT: "shop"}
    return found


def deleted() -> dict[str, Any]:
    found = deployment()
    found["metadata"]["deletionTimestamp"] = "2026-11-27T12:00:00Z"
    return found


def rolling(replicas: int, **limits: Any) -> dict[str, Any]:
    return deployment(replicas=replicas, strategy={"type": "RollingUpdate", "rollingUpdate": limits})


def test_an_ordinary_deployment_is_released() -> None:
    assert foreign(deployment()) == unfit(deployment()) == ()


@pytest.mark.parametrize(
    ("stable", "reason"),
    [
        (owned("argoproj.io/v1alpha1", "Rollout"), "OwnedByArgoRollouts"),
        (annotated("rollout.argoproj.io/workload-generation"), "OwnedByArgoRollouts"),
        (hashed(), "OwnedByArgoRollouts"),
        (owned("flagger.app/v1beta1", "Canary"), "OwnedByFlagger"),
        (annotated("rollouts.kruise.io/rolling-revision"), "OwnedByKruise"),
        (owned("example.com/v1", "Shop"), "OwnedByController"),
        (made_by_us(), "IsCanary"),
        (deleted(), "BeingDeleted"),
        (deployment(paused=True), "Paused"),
        (deployment(strategy={"type": "Recreate"}), "Recreates"),
        (rolling(2, maxUnavailable="100%", maxSurge=0), "MayBeEmpty"),
        (rolling(1, maxUnavailable=1), "MayBeEmpty"),
        (rolling(1, maxUnavailable="0%", maxSurge="0%"), "MayBeEmpty"),
        ({**deployment(), "kind": "StatefulSet"}, "KindNotSupported"),
    ],
)
def test_what_is_refused_and_that_there_is_a_remedy(stable: dict[str, Any], reason: str) -> None:
    (found,) = (*foreign(stable), *unfit(stable))
    assert found.reason == reason
    assert found.message
    assert found.remedy


def test_the_default_strategy_leaves_one_pod_at_any_size() -> None:
    assert all(unfit(rolling(n, maxUnavailable="25%", maxSurge="25%")) == () for n in range(1, 20))


def test_flagger_is_known_by_the_primary_it_made() -> None:
    primary = owned("flagger.app/v1beta1", "Canary")
    assert [found.reason for found in foreign(deployment(), primary=primary)] == ["OwnedByFlagger"]
    assert foreign(deployment(), primary=deployment("shop-primary")) == ()


def test_one_scaled_to_zero_may_have_any_strategy_of_updates() -> None:
    assert unfit(rolling(0, maxUnavailable=1)) == ()


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "ReplicaSet", "Rollout", "Job"])
def test_other_kinds_are_refused_each_with_its_reason(kind: str) -> None:
    found = refuse_kind(kind)
    assert found is not None
    assert kind in found.message
    assert found.remedy


def test_a_deployment_is_claimed_once_and_given_up_by_its_holder_only() -> None:
    stable = deployment()
    patch = claim(stable, MINE)
    assert isinstance(patch, dict)
    stable = merged(stable, patch)
    assert holder(stable) == MINE
    assert claim(stable, MINE) is None
    assert unclaim(stable, OTHER) is None
    refused = claim(stable, OTHER)
    assert isinstance(refused, Refusal)
    assert (refused.reason, "shop" in refused.message) == ("ClaimedByAnother", True)
    assert holder(merged(stable, unclaim(stable, MINE))) is None


def test_the_claim_of_a_rollout_that_is_gone_is_taken_over() -> None:
    stable = merged(deployment(), claim(deployment(), OTHER))
    assert isinstance(claim(stable, MINE, gone=["another"]), Refusal)
    assert holder(merged(stable, claim(stable, MINE, gone=[OTHER.uid]))) == MINE
