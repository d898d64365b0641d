"""How many pods a share needs, and how much traffic stable can take back."""

from __future__ import annotations

import pytest
from tests.unit.deployment_setting import autoscaler, canary, deployment, merged

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.workload.deployment.size import (
    Size,
    Sizing,
    autoscaled,
    autoscaler_of,
    canary_size,
    full_size,
    keep_size,
    kept_size,
    scaled_to_zero,
    weight_to_leave,
)


@pytest.mark.parametrize(
    ("replicas", "weight", "pods"),
    [
        (3, 5, 1),
        (3, 20, 1),
        (3, 40, 2),
        (3, 100, 3),
        (10, 5, 1),
        (10, 20, 2),
        (100, 5, 5),
        (1, 100, 1),
        (3, 0, 0),
    ],
)
def test_a_share_of_the_full_size(replicas: int, weight: int, pods: int) -> None:
    assert canary_size(deployment(replicas=replicas), weight) == Size(pods, weight)


def test_a_floor_holds_at_every_weight_but_none() -> None:
    sizing = Sizing(minimum=2)
    found = [canary_size(deployment(replicas=10), weight, sizing=sizing).pods for weight in (0, 5, 20, 40)]
    assert found == [0, 2, 2, 4]


def test_the_surge_bounds_the_pods_and_says_what_they_carry() -> None:
    assert canary_size(deployment(replicas=10), 80, sizing=Sizing(surge=40)) == Size(4, 40)


def test_it_grows_with_a_stable_that_an_autoscaler_has_grown() -> None:
    """At 20 % stable's 20 pods carry 80 % of the traffic, so the canary needs 5: not 2 of 10, nor 4 of 20."""
    stable = deployment(replicas=20)
    assert canary_size(stable, 20, autoscaler=autoscaler(), kept=10).pods == 5


def test_it_keeps_its_size_when_an_autoscaler_shrinks_stable_with_its_traffic() -> None:
    assert canary_size(deployment(replicas=2), 80, autoscaler=autoscaler(), kept=10).pods == 8
    assert canary_size(deployment(replicas=2), 100, autoscaler=autoscaler(), kept=10).pods == 10


def test_the_least_of_an_autoscaler_is_the_least_full_size() -> None:
    assert full_size(deployment(replicas=1), autoscaler(least=4)) == 4


def test_the_size_at_the_start_is_kept_for_one_release() -> None:
    stable, other = deployment(replicas=10), canary()
    other = merged(other, keep_size(stable, other, "r1"))
    shrunk = deployment(replicas=2)
    assert keep_size(shrunk, other, "r1") is None
    assert kept_size(other, "r1") == 10
    assert kept_size(other, "r2") == 0
    assert kept_size(merged(other, keep_size(shrunk, other, "r2")), "r2") == 2


@pytest.mark.parametrize("weight", [-1, 101])
def test_what_is_no_weight_is_refused(weight: int) -> None:
    with pytest.raises(Invalid):
        canary_size(deployment(), weight)


def test_autoscalers_are_known_by_their_target() -> None:
    other = autoscaler("cart")
    stateful = autoscaler()
    stateful["spec"]["scaleTargetRef"]["kind"] = "StatefulSet"
    assert autoscaler_of(deployment(), [other, stateful]) is None
    assert autoscaler_of(deployment(), [other, autoscaler()]) == autoscaler()


def test_a_canary_with_an_autoscaler_and_a_stable_of_none_are_refused() -> None:
    refused = autoscaled(canary(), [autoscaler("shop-canary")])
    assert refused is not None
    assert refused.reason == "CanaryAutoscaled"
    assert autoscaled(canary(), [autoscaler()]) is None
    empty = scaled_to_zero(deployment(replicas=0))
    assert empty is not None
    assert empty.reason == "ScaledToZero"
    assert scaled_to_zero(deployment()) is None


def test_traffic_goes_back_as_stable_can_carry_it() -> None:
    assert weight_to_leave(10, 10, autoscaled=True) == 0
    assert weight_to_leave(4, 10, autoscaled=False) == 60
    assert weight_to_leave(4, 10, autoscaled=True) == 50
    assert weight_to_leave(0, 10, autoscaled=True) == 100
    assert weight_to_leave(12, 10, autoscaled=False) == 0


def test_an_autoscaler_that_follows_its_load_gets_everything_back() -> None:
    """Each time it is loaded above its mark it adds as many pods as that load needs."""
    ready, full, weights = 2, 10, []
    while (weight := weight_to_leave(ready, full, autoscaled=True)) > 0:
        weights.append(weight)
        load = full * (100 - weight) / 100
        assert load / ready > 1.1
        ready = -(-int(load * 100) // 100)
    assert weights == sorted(weights, reverse=True)
