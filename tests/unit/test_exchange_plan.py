"""Which claims workloads use, and what comes in the place of one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.recovery.restore import exchange_plan as plans
from phoenix_orch.recovery.restore.exchange_plan import Exchange


def stateful_set(name: str = "shop", replicas: int = 2, **spec: Any) -> dict[str, Any]:
    template = {"spec": {"volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": "shared"}}]}}
    claims = [{"metadata": {"name": "data"}}]
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "template": template, "volumeClaimTemplates": claims, **spec},
    }


def test_claims_of_a_set_are_those_of_its_ordinals_and_of_its_template() -> None:
    assert plans.claims_of(stateful_set()) == {"shared", "data-shop-0", "data-shop-1"}
    assert plans.claims_of(stateful_set(ordinals={"start": 5})) == {"shared", "data-shop-5", "data-shop-6"}


def test_claims_of_a_set_that_was_stopped_are_still_its_own() -> None:
    found = stateful_set(replicas=3)
    changes = plans.stopped(found, "data-shop-2")
    now = {
        "metadata": {**found["metadata"], **changes["metadata"]},
        "spec": {**found["spec"], **changes["spec"]},
    }
    assert now["spec"]["replicas"] == 0
    assert plans.uses(now, "data-shop-2")
    assert plans.stopped_for(now) == {"replicas": 3, "claim": "data-shop-2"}
    assert plans.resumed(now)["spec"] == {"replicas": 3}


@pytest.mark.parametrize(
    ("claim", "used"),
    [
        ("data-shop-0", True),
        ("data-shop-7", True),  # of a time when it was larger
        ("data-shop", False),
        ("data-shop-x", False),
        ("data-other-0", False),
        ("more-data-shop-0", False),
        ("shared", True),
    ],
)
def test_whether_a_set_uses_a_claim(claim: str, used: bool) -> None:
    assert plans.uses(stateful_set(), claim) is used


def pod(name: str, phase: str, *, node: str = "one", going: bool = False) -> dict[str, Any]:
    volumes = [{"persistentVolumeClaim": {"claimName": "data"}}, {"emptyDir": {}}]
    return {
        "metadata": {"name": name, **({"deletionTimestamp": "2026-11-28T00:00:00Z"} if going else {})},
        "spec": {"volumes": volumes, **({"nodeName": node} if node else {})},
        "status": {"phase": phase},
    }


def test_pods_that_have_ended_use_nothing() -> None:
    pods = [pod("a", "Running"), pod("b", "Succeeded"), pod("c", "Failed"), pod("d", "Pending", node="")]
    assert plans.users(pods, "data") == ["a", "d"]
    assert plans.users(pods, "other") == []


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_and_stays_keeps_its_claim(phase: str) -> None:
    """Kubernetes protects a claim from each pod that was given to a node, until the pod is gone."""
    keeps, runs = pod("night-1", phase), pod("a", "Running")
    with pytest.raises(BadState, match="pods that have ended keep the claim data: night-1") as refused:
        plans.refuse_ended([runs, keeps], "data", "shop")
    assert refused.value.remedy.endswith("kubectl delete pod -n shop night-1")
    plans.refuse_ended([runs, keeps], "other", "shop")
    goes, never_ran = pod("b", phase, going=True), pod("c", phase, node="")
    plans.refuse_ended([runs, goes, never_ran], "data", "shop")


def test_a_set_that_deletes_claims_when_it_is_scaled_down_is_refused() -> None:
    plans.refuse_deleting(stateful_set())
    with pytest.raises(BadState, match="deletes its claims"):
        plans.refuse_deleting(stateful_set(persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete"}))


VOLUME = {
    "metadata": {"name": "pv-1"},
    "spec": {"capacity": {"storage": "3Gi"}, "storageClassName": "fast", "accessModes": ["ReadWriteOnce"]},
}


def test_the_new_claim_is_the_old_one_on_another_volume() -> None:
    old = {
        "metadata": {
            "name": "data",
            "uid": "u",
            "labels": {"app": "shop"},
            "annotations": {"mine": "1", "pv.kubernetes.io/bind-completed": "yes", plans.KEPT: "x"},
            "ownerReferences": [{"kind": "StatefulSet"}],
        },
        "spec": {"volumeName": "pv-0"},
    }
    like = {"metadata": {"namespace": "ns"}, "spec": {"accessModes": ["ReadWriteOnce"], "dataSource": {}}}
    made = plans.new_claim("data", like, VOLUME, old, {"ignored": "1"})
    assert made["metadata"] == {
        "name": "data",
        "namespace": "ns",
        "labels": {"app": "shop"},
        "annotations": {"mine": "1"},
        "ownerReferences": [{"kind": "StatefulSet"}],
    }
    assert made["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "3Gi"}},
        "volumeName": "pv-1",
    }
    assert plans.new_claim("data", like, VOLUME, None, {"app": "x"})["metadata"]["labels"] == {"app": "x"}


texts = st.text("abc-", max_size=10)


@given(
    one=st.builds(
        Exchange,
        namespace=texts,
        claim=texts,
        volume=texts,
        through=texts,
        old_volume=texts,
        policy=texts,
        body=st.dictionaries(texts, texts),
        plan=texts,
    )
)
def test_a_note_comes_back(one: Exchange) -> None:
    assert plans.read_note({"metadata": {"annotations": {plans.NOTE: one.stored()}}}) == one
    assert plans.read_note({"metadata": {}}) is None
