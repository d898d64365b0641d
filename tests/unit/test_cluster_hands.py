"""Pods as the machine counts them, the traffic object of two Services, and the size of the canary."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from phoenix_orch.orchestrator.cluster.hands import canary_wanted
from phoenix_orch.orchestrator.cluster.picture import counted, steered
from phoenix_orch.orchestrator.cluster.unsupported import unsupported
from phoenix_orch.rollout.facts import Decision, GroupFacts, TrafficWanted
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.rollout.status import ACTIVE, State, Status
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

AT = datetime(2026, 1, 1, tzinfo=UTC)
PROMOTING = Status(state=State.PROMOTING, stable="a", canary="b")


def pods(*found: tuple[str, str, InstanceState]) -> WorkloadState:
    return WorkloadState(
        service="web",
        at=AT,
        instances=tuple(Instance(name=n, revision=r, state=s, port=80) for n, r, s in found),
    )


def traffic(stable: str, canary: str | None = None, weight: int = 0) -> TrafficState:
    behind = (Backend(instance="web-canary", url="http://web-canary"),)
    return TrafficState(
        route="web",
        version=1,
        stable=Group(revision=stable, backends=(Backend(instance="web", url="http://web"),)),
        canary=Group(revision=canary, backends=behind) if canary else None,
        weight=weight,
    )


HALF_DONE = pods(
    ("web-1", "b", InstanceState.READY),
    ("web-2", "b", InstanceState.STARTING),
    ("web-canary-1", "b", InstanceState.READY),
)


def test_stables_new_pods_are_stable_until_the_traffic_says_otherwise() -> None:
    found = counted(PROMOTING, HALF_DONE, {"web-canary-1"}, traffic("a", "b", 100))
    assert found == {"a": GroupFacts(present=2, ready=1), "b": GroupFacts(present=1, ready=1)}


def test_after_the_change_of_the_traffic_object_all_are_the_new_revision() -> None:
    found = counted(PROMOTING, HALF_DONE, {"web-canary-1"}, traffic("b"))
    assert found == {"b": GroupFacts(present=3, ready=2)}


def test_what_is_taken_back_is_there_until_its_last_pod_has_gone_from_stable_too() -> None:
    leaving = PROMOTING.model_copy(update={"state": State.ROLLING_BACK})
    assert counted(leaving, HALF_DONE, {"web-canary-1"}, traffic("a", "b"))["b"].present == 3


def test_groups_stand_behind_services() -> None:
    wanted = TrafficWanted(stable="a", canary="b", weight=20)
    found = steered("web", wanted, traffic("a"), services=("web", "web-canary"), canary_serves=True)
    assert found == traffic("a", "b", 20)


def test_a_canary_that_serves_nothing_gets_nothing() -> None:
    wanted = TrafficWanted(stable="a", canary="b", weight=20)
    found = steered("web", wanted, None, services=("web", "web-canary"), canary_serves=False)
    assert (found.weight, found.canary, found.version) == (0, Group(revision="b"), 0)


def test_the_revision_before_has_no_pods_to_go_back_to() -> None:
    wanted = TrafficWanted(stable="b", previous="a")
    found = steered(
        "web", wanted, traffic("a", "b", 100), services=("web", "web-canary"), canary_serves=False
    )
    assert (found.previous, found.canary, found.weight) == (Group(revision="a"), None, 0)


def decision(**instances: int) -> Decision:
    return Decision(status=PROMOTING, instances=instances)


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_the_canary_of_the_release_is_as_large_as_wanted(state: State) -> None:
    status = Status(state=state, stable="a", canary="b")
    assert canary_wanted(status, "b", decision(a=4, b=2), 1, traffic("a", "b", 40)) == 2


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.CANCELLING, State.ROLLED_BACK])
def test_a_canary_that_leaves_never_grows(state: State) -> None:
    """Stable may still run the same revision in more pods, which count as its own."""
    status = Status(state=state, stable="a", canary="b")
    assert canary_wanted(status, "b", decision(a=4, b=4), 1, traffic("a", "b")) == 1
    assert canary_wanted(status, "b", decision(a=4), 1, traffic("a", "b")) == 0


def test_after_a_promotion_it_goes_once_nothing_is_sent_to_it() -> None:
    status = Status(state=State.BAKING, stable="b", previous="a")
    assert canary_wanted(status, "b", decision(b=4), 4, traffic("b")) == 0
    assert canary_wanted(status, "b", decision(b=4), 4, traffic("a", "b", 100)) == 4
    drifted = traffic("b").model_copy(update={"drifted": True})
    assert canary_wanted(status, "b", decision(b=4), 4, drifted) == 4
    assert canary_wanted(status, "b", decision(b=4), 4, None) == 4


def test_it_does_not_grow_by_the_pods_of_a_stable_that_runs_the_same_since_the_swap() -> None:
    """All of them count as the new revision's then: its own would be taken for too few again and again."""
    assert canary_wanted(PROMOTING, "b", decision(b=8), 4, traffic("b")) == 4
    assert canary_wanted(PROMOTING, "b", decision(b=4), 2, traffic("a", "b", 40)) == 4


def test_what_somebody_has_just_applied_is_left_alone() -> None:
    status = Status(state=State.IDLE, stable="a")
    assert canary_wanted(status, "c", decision(a=4), 3, traffic("a")) == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, None),
        ({"checks": [{"name": "ping", "http": {"url": "http://web/ping"}}]}, None),
        ({"checks": [{"name": "smoke", "job": {"cronJob": "smoke"}}]}, "check smoke is a Job"),
        ({"checks": [{"name": "ping", "http": {"url": "{canary}/ping"}}]}, None),
        ({"checks": [{"name": "ping", "http": {"url": "http://web/{{route}}"}}]}, None),
        ({"checks": [{"name": "ping", "http": {"url": "{route}/ping"}}]}, None),
        ({"evidence": {"source": "pods"}}, None),
        (
            {
                "evidence": {"source": "pods"},
                "phases": [{"name": "a", "weight": 5, "duration": "1m", "limits": {"cpu": "50%"}}],
            },
            "a phase limits CPU or memory",
        ),
        ({"evidence": {"queries": [{"name": "q", "query": "up", "minimum": 1}]}}, None),
        ({"traffic": {"ingress": "web", "additional": ["b"]}}, None),
        ({"traffic": {"httpRoute": "web", "additional": ["b"]}}, None),
    ],
)
def test_what_would_not_be_looked_at_keeps_weight_away(more: dict[str, object], said: str | None) -> None:
    spec = KubernetesRolloutSpec.model_validate(
        {"workload": {"name": "web"}, "traffic": {"ingress": "web"}, **more}
    )
    found = unsupported(spec)
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert found.message.startswith(said)
