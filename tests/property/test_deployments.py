"""What holds of any Deployment: patches, sizes, canaries, revisions."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.deployment_setting import (
    autoscaler,
    budget,
    deployment,
    merged,
    pod,
    service,
    stamp,
    template,
)

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.workload.deployment.canary import canary_service, confusions, derived, with_images
from phoenix_orch.workload.deployment.defaults import what_runs
from phoenix_orch.workload.deployment.health import CANNOT_START, health
from phoenix_orch.workload.deployment.manifest import difference
from phoenix_orch.workload.deployment.promotion import promote
from phoenix_orch.workload.deployment.revision import revision, running, template_hash
from phoenix_orch.workload.deployment.selectors import Surroundings, as_stable, identity, selects
from phoenix_orch.workload.deployment.size import Sizing, canary_size, weight_to_leave

LEAVES = st.one_of(st.integers(0, 3), st.sampled_from(["a", "b"]), st.booleans())
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), st.lists(inner, max_size=2)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), TREES, max_size=4)


@given(OBJECTS, OBJECTS)
def test_the_difference_is_the_patch_that_makes_one_of_the_other(before: Any, after: Any) -> None:
    patch = difference(before, after)
    assert merged(before, patch) == after
    assert difference(after, after) == {}


KEYS = st.sampled_from(["app", "tier", "team", "track", "app.kubernetes.io/name"])
LABELS = st.dictionaries(KEYS, st.sampled_from(["shop", "web", "stable", "x" * 63]), min_size=1, max_size=4)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, Any], Surroundings]:
    """A Deployment, Services and budgets that select its pods or others, and affinity of either kind."""
    labels = draw(LABELS)

    def some(of: dict[str, str]) -> dict[str, str]:
        keys = draw(st.lists(st.sampled_from(sorted(of)), min_size=1, unique=True))
        return {key: of[key] for key in keys}

    spread = [
        {"maxSkew": 1, "topologyKey": "zone", "labelSelector": {"matchLabels": wanted}}
        for wanted in (some(labels), {"app": "cache"})
    ]
    pods = template(labels=labels, topologySpreadConstraints=spread)
    selected = [some(labels) for _ in range(draw(st.integers(0, 2)))]
    services = [service(f"s{n}", selector=wanted) for n, wanted in enumerate([*selected, {"app": "cart"}])]
    budgets = [budget("b", some(labels)), budget("all", {})]
    return deployment(pods=pods, selector=some(labels), replicas=draw(st.integers(1, 9))), Surroundings(
        services, budgets
    )


@given(worlds())
def test_a_derived_canary_is_never_taken_for_stable_and_promotes_to_itself(
    world: tuple[dict[str, Any], Surroundings],
) -> None:
    stable, around = world
    before = deepcopy(stable)
    pods = with_images(stable["spec"]["template"], {"shop": "shop:2"})
    canary = derived(stable, name="c", rollout="r", template=pods, around=around)
    assert confusions(stable, canary, around) == ()
    assert stable == before

    back = as_stable(canary["spec"]["template"], identity(stable, canary, around))
    found = revision(back, {})
    promotion = promote(
        stable,
        canary,
        found,
        expected=template_hash(stable["spec"]["template"]),
        rollout="r",
        around=around,
    )
    after = merged(stable, promotion.patch)["spec"]["template"]
    expected = deepcopy(stable["spec"]["template"])
    expected["spec"]["containers"][0]["image"] = "shop:2"
    assert what_runs(after) == what_runs(expected)
    assert running(after, {}) == found.id
    assert selects(stable["spec"]["selector"], after["metadata"]["labels"])

    for each in around.services:
        try:
            made = canary_service(each, stable, canary, rollout="r", around=around)
        except BadState:
            labels = stable["spec"]["template"]["metadata"]["labels"]
            assert not selects({"matchLabels": each["spec"]["selector"]}, labels)
            continue
        selector = {"matchLabels": made["spec"]["selector"]}
        assert selects(selector, canary["spec"]["template"]["metadata"]["labels"])
        assert not selects(selector, stable["spec"]["template"]["metadata"]["labels"])


SIZINGS = st.builds(Sizing, st.integers(1, 5), st.integers(1, 300))


@example(replicas=1, kept=0, scaled=True, sizing=Sizing(1, 150), weight=99)
@given(st.integers(1, 200), st.integers(0, 200), st.booleans(), SIZINGS, st.integers(1, 99))
def test_a_canary_is_as_large_as_its_weight_and_within_its_bounds(
    replicas: int, kept: int, scaled: bool, sizing: Sizing, weight: int
) -> None:
    stable, scaler = deployment(replicas=replicas), autoscaler() if scaled else None
    full = max(replicas, kept, 2 if scaled else 0)
    size = canary_size(stable, weight, sizing=sizing, autoscaler=scaler, kept=kept)
    larger = canary_size(stable, weight + 1, sizing=sizing, autoscaler=scaler, kept=kept)
    assert 1 <= size.pods <= max(1, sizing.minimum, full * sizing.surge // 100)
    assert size.pods <= larger.pods
    assert 0 <= size.carries <= weight
    if size.carries == weight:
        assert size.pods * 100 >= full * weight
    else:
        assert size.pods * 100 >= full * size.carries


@given(st.integers(0, 50), st.integers(1, 50), st.booleans())
def test_stable_never_gets_back_what_its_pods_cannot_carry(ready: int, full: int, scaled: bool) -> None:
    left = weight_to_leave(ready, full, autoscaled=scaled)
    assert 0 <= left <= 100
    if ready < full:
        given_back = (100 - left) / 100 * full
        assert given_back <= ready * (1.25 if scaled else 1.0) + 1e-9
    assert weight_to_leave(ready + 1, full, autoscaled=scaled) <= left


TIMES = st.integers(0, 100).map(stamp)
ENDS = st.fixed_dictionaries(
    {},
    optional={
        "exitCode": st.sampled_from([0, 1, 137]),
        "reason": st.sampled_from(["Error", "OOMKilled", "ContainerStatusUnknown"]),
        "finishedAt": TIMES,
    },
)
WAITING = st.sampled_from([*CANNOT_START, "CrashLoopBackOff"])
STATES = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"running": st.fixed_dictionaries({}, optional={"startedAt": TIMES})}),
    st.fixed_dictionaries({"terminated": ENDS}),
    st.fixed_dictionaries(
        {
            "waiting": st.fixed_dictionaries(
                {}, optional={"reason": st.sampled_from([*CANNOT_START, "CrashLoopBackOff"])}
            )
        }
    ),
)
CONTAINERS = st.fixed_dictionaries(
    {"name": st.just("shop")},
    optional={
        "restartCount": st.integers(0, 5),
        "state": STATES,
        "lastState": st.fixed_dictionaries({}, optional={"terminated": ENDS}),
    },
)
CONDITIONS = st.fixed_dictionaries(
    {"type": st.sampled_from(["Ready", "PodScheduled", "DisruptionTarget"])},
    optional={"status": st.sampled_from(["True", "False"]), "lastTransitionTime": TIMES},
)
STATUSES = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Pending", "Running", "Failed", "Unknown"]),
        "reason": st.sampled_from(["Evicted", "NodeShutdown"]),
        "startTime": TIMES,
        "conditions": st.lists(CONDITIONS, max_size=3),
        "containerStatuses": st.lists(CONTAINERS, max_size=2),
        "initContainerStatuses": st.lists(CONTAINERS, max_size=1),
    },
)


@given(STATUSES)
def test_whatever_a_pod_says_is_either_the_versions_or_the_clusters(status: dict[str, Any]) -> None:
    found = {**pod(), "status": status}
    told = health([found], [], {found["metadata"]["uid"]: "r"})
    assert len(told.instances) == (status.get("phase") != "Failed")
    assert {one.instance for one in told.exits} <= {"shop-1"}
    assert [one.at for one in told.exits] == sorted(one.at for one in told.exits)
    if status.get("reason") == "NodeShutdown" or status.get("phase") == "Unknown":
        assert told.exits == ()
        assert told.blocked()


@given(st.randoms(use_true_random=False), worlds())
def test_the_order_of_fields_is_no_revision(
    rng: random.Random, world: tuple[dict[str, Any], Surroundings]
) -> None:
    def shuffled(tree: Any) -> Any:
        if isinstance(tree, dict):
            names = list(tree)
            rng.shuffle(names)
            return {name: shuffled(tree[name]) for name in names}
        return [shuffled(one) for one in tree] if isinstance(tree, list) else tree

    pods = world[0]["spec"]["template"]
    assert template_hash(shuffled(pods)) == template_hash(pods)
