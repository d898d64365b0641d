"""The canary that is made from stable, the one a person wrote, and its Service."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from tests.unit.deployment_setting import budget, canary, deployment, service, template

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.canary import canary_service, confusions, derived, with_images
from phoenix_orch.workload.deployment.revision import template_hash
from phoenix_orch.workload.deployment.selectors import (
    NOTHING_AROUND,
    Surroundings,
    as_stable,
    identity,
    selects,
)

SPREAD = [{"maxSkew": 1, "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "shop"}}}]
AFFINITY = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "topologyKey": "host",
                "labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop"]}]},
            }
        ]
    },
    "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "cache"}}}
        ]
    },
}


def rich() -> dict[str, Any]:
    pods = template(
        labels={"app": "shop", "team": "web"},
        affinity=deepcopy(AFFINITY),
        topologySpreadConstraints=deepcopy(SPREAD),
        tolerations=[{"key": "spot", "operator": "Exists"}],
        serviceAccountName="shop",
        initContainers=[{"name": "migrate", "image": "migrate:1"}],
        volumes=[{"name": "scratch", "emptyDir": {}}],
    )
    found = deployment(pods=pods, selector={"app": "shop"}, minReadySeconds=5)
    found["metadata"] |= {
        "labels": {"app.kubernetes.io/instance": "shop"},
        "annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:phoenix-orch/shop"},
    }
    return found


def make(
    stable: dict[str, Any], images: dict[str, str] | None = None, around: Surroundings = NOTHING_AROUND
) -> dict[str, Any]:
    pods = with_images(stable["spec"]["template"], images or {})
    return derived(stable, name="shop-canary", rollout="shop", template=pods, around=around)


def pod_labels(found: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = found["spec"]["template"]["metadata"]["labels"]
    return labels


def test_it_runs_what_stable_runs_with_another_image() -> None:
    stable = rich()
    made = make(stable, images={"shop": "shop:2", "migrate": "migrate:2"})
    kept = made["spec"]["template"]["spec"]
    assert [one["image"] for one in (*kept["initContainers"], *kept["containers"])] == ["migrate:2", "shop:2"]
    for part in ("tolerations", "serviceAccountName", "volumes"):
        assert kept[part] == stable["spec"]["template"]["spec"][part]
    assert (made["spec"]["minReadySeconds"], made["spec"]["replicas"]) == (5, 0)
    assert stable == rich()


def test_no_pod_is_taken_for_one_of_the_other() -> None:
    stable = rich()
    made = make(stable)
    assert pod_labels(made) == {"app": "shop-canary", "team": "web", marks.VARIANT: "canary"}
    assert not selects(stable["spec"]["selector"], pod_labels(made))
    assert not selects(made["spec"]["selector"], pod_labels(stable))
    assert selects(made["spec"]["selector"], pod_labels(made))
    assert confusions(stable, made, Surroundings([service()], [budget("shop", {"app": "shop"})])) == ()


def test_affinity_and_spread_mean_its_own_pods_and_others_as_before() -> None:
    spec = make(rich())["spec"]["template"]["spec"]
    assert spec["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == {"app": "shop-canary"}
    anti = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    assert anti["labelSelector"]["matchExpressions"][0]["values"] == ["shop-canary"]
    assert spec["affinity"]["podAffinity"] == AFFINITY["podAffinity"]


def test_affinity_to_others_that_share_a_label_means_those_others() -> None:
    wanted = {"matchLabels": {"app": "shop", "team": "search"}}
    stable = rich()
    stable["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"] = wanted
    spec = make(stable)["spec"]["template"]["spec"]
    assert spec["topologySpreadConstraints"][0]["labelSelector"] == wanted


def test_nobody_wants_the_label_canary_on_stable() -> None:
    stable = deployment(pods=template(labels={"app": "shop", "track": "stable"}), selector={"app": "shop"})
    other = deployment("c", pods=template(labels={"app": "c", "track": "canary"}), selector={"app": "c"})
    back = as_stable(other["spec"]["template"], identity(stable, other))
    assert back["metadata"]["labels"] == {"app": "shop", "track": "stable"}


def test_tools_of_git_do_not_take_it_for_theirs() -> None:
    assert make(rich())["metadata"] == {
        "name": "shop-canary",
        "namespace": "phoenix-orch",
        "labels": {marks.MANAGED_BY: marks.MANAGER, marks.ROLLOUT: "shop"},
    }


def test_unchanged_it_is_the_revision_of_stable() -> None:
    stable = rich()
    made = make(stable)
    back = as_stable(made["spec"]["template"], identity(stable, made))
    assert template_hash(back) == template_hash(stable["spec"]["template"])


def test_as_few_labels_change_as_tell_it_apart_from_all() -> None:
    around = Surroundings([service(selector={"team": "web"})], [budget("shop", {"team": "web"})])
    made = make(rich(), around=around)
    assert pod_labels(made) == {"app": "shop-canary", "team": "web-canary", marks.VARIANT: "canary"}
    assert confusions(rich(), made, around) == ()
    back = as_stable(made["spec"]["template"], identity(rich(), made, around))
    assert template_hash(back) == template_hash(rich()["spec"]["template"])


def test_a_label_that_settles_everything_is_the_one_to_change() -> None:
    stable = deployment(pods=template(labels={"a": "1", "b": "2"}), selector={"a": "1", "b": "2"})
    made = make(stable, around=Surroundings([service(selector={"b": "2"})]))
    assert pod_labels(made) == {"a": "1", "b": "2-canary", marks.VARIANT: "canary"}


def test_long_labels_stay_within_their_limit() -> None:
    long = "x" * 63
    made = make(deployment(pods=template(labels={"app": long})))
    assert len(pod_labels(made)["app"]) == 63
    assert pod_labels(made)["app"] != long


def test_an_unknown_container_is_refused() -> None:
    with pytest.raises(NotFound, match="'web'") as refusal:
        make(rich(), images={"web": "web:2"})
    assert "migrate, shop" in refusal.value.remedy


def test_affinity_that_names_the_canary_already_is_refused() -> None:
    stable = rich()
    terms = stable["spec"]["template"]["spec"]["affinity"]["podAffinity"]
    term = terms["requiredDuringSchedulingIgnoredDuringExecution"][0]
    term["labelSelector"] = {"matchLabels": {"app": "shop-canary"}}
    with pytest.raises(BadState, match="names pods of a canary already"):
        make(stable)


def test_a_service_that_selects_everything_by_expression_cannot_be_told_apart() -> None:
    anybody = {
        "metadata": {"name": "all"},
        "spec": {"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}},
    }
    with pytest.raises(BadState, match="PodDisruptionBudget all would select"):
        make(rich(), around=Surroundings(budgets=[anybody]))


# -- a person's canary -----------------------------------------------------------------------------


def test_the_canary_of_the_guide_is_accepted() -> None:
    around = Surroundings([service()], [budget("shop", {"app": "shop"}), budget("all", {})])
    assert confusions(deployment(), canary(), around) == ()


@pytest.mark.parametrize(
    ("found", "around", "reasons"),
    [
        (deployment(), Surroundings(), ["SameDeployment"]),
        (
            deployment("c", pods=template(labels={"app": "shop", "track": "canary"})),
            Surroundings([service()]),
            ["StableSelectsCanary", "ServiceSelectsBoth"],
        ),
        (
            deployment("c", pods=template(labels={"app": "shop"})),
            Surroundings(),
            ["CanarySelectsStable", "StableSelectsCanary"],
        ),
        (
            deployment("c", pods=template(labels={"app": "c", "team": "web"})),
            Surroundings([], [budget("team", {"team": "web"})]),
            ["BudgetCountsCanary"],
        ),
        ({**canary(), "spec": {**canary()["spec"], "paused": True}}, Surroundings(), ["CanaryPaused"]),
    ],
    ids=["same", "track", "labels", "budget", "paused"],
)
def test_what_would_confuse_the_two(found: dict[str, Any], around: Surroundings, reasons: list[str]) -> None:
    stable = deployment(pods=template(labels={"app": "shop", "team": "web"}), selector={"app": "shop"})
    refused = confusions(stable, found, around)
    assert [one.reason for one in refused] == reasons
    assert all(one.message and one.remedy for one in refused)


def test_a_service_without_traffic_may_select_both() -> None:
    stable = deployment(pods=template(labels={"app": "shop", "track": "stable"}))
    other = deployment("c", pods=template(labels={"app": "shop", "track": "canary"}))
    metrics = service("metrics")
    assert [one.reason for one in confusions(stable, other, Surroundings([metrics]))] == [
        "ServiceSelectsBoth"
    ]
    metrics["metadata"]["annotations"] = {marks.SELECTS_BOTH: "true"}
    assert confusions(stable, other, Surroundings([metrics])) == ()


def test_labels_that_tell_apart_stay_with_each_and_others_go_along() -> None:
    stable = deployment(
        pods=template(labels={"app": "shop", "track": "stable", "version": "1"}),
        selector={"app": "shop", "track": "stable"},
    )
    other = deployment(
        "c",
        pods=template(labels={"app": "shop", "track": "canary", "version": "2"}),
        selector={"app": "shop", "track": "canary"},
    )
    back = as_stable(other["spec"]["template"], identity(stable, other))
    assert back["metadata"]["labels"] == {"app": "shop", "track": "stable", "version": "2"}


# -- its Service -----------------------------------------------------------------------------------


def test_the_service_has_the_ports_and_no_address_of_stables() -> None:
    public = service(
        type="LoadBalancer",
        clusterIP="10.96.0.7",
        clusterIPs=["10.96.0.7"],
        externalTrafficPolicy="Local",
        healthCheckNodePort=30001,
        loadBalancerIP="192.0.2.1",
        externalIPs=["192.0.2.2"],
        sessionAffinity="ClientIP",
    )
    public["spec"]["ports"][0] |= {"nodePort": 30000, "appProtocol": "kubernetes.io/h2c"}
    public["metadata"]["annotations"] = {
        "external-dns.alpha.kubernetes.io/hostname": "shop.example",
        "service.beta.kubernetes.io/aws-load-balancer-type": "nlb",
        "traefik.ingress.kubernetes.io/service.serversscheme": "h2c",
    }
    made = canary_service(public, deployment(), canary(), rollout="shop")
    assert made["spec"] == {
        "type": "ClusterIP",
        "selector": {"app": "shop-canary"},
        "ports": [
            {
                "name": "http",
                "port": 80,
                "targetPort": 8080,
                "protocol": "TCP",
                "appProtocol": "kubernetes.io/h2c",
            }
        ],
        "sessionAffinity": "ClientIP",
    }
    assert made["metadata"]["annotations"] == {"traefik.ingress.kubernetes.io/service.serversscheme": "h2c"}
    assert made["metadata"]["name"] == "shop-canary"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-of-shop-canary"


def test_the_service_selects_canary_pods_and_no_stable_ones() -> None:
    stable = rich()
    made = make(stable)
    selector = {"matchLabels": canary_service(service(), stable, made, rollout="shop")["spec"]["selector"]}
    assert selects(selector, pod_labels(made))
    assert not selects(selector, pod_labels(stable))


def test_a_headless_service_stays_headless() -> None:
    found = canary_service(service(clusterIP="None"), deployment(), canary(), rollout="shop")
    assert found["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(
    "other",
    [service(type="ExternalName", externalName="shop.example"), service(selector={"app": "cart"})],
)
def test_a_service_of_other_pods_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(BadState, match="does not select the pods"):
        canary_service(other, deployment(), canary(), rollout="shop")
