"""The Helm chart makes what `k8s/base` makes, takes no wrong value, and leaves only Rollouts when it goes."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.cluster.awaiting import eventually
from tests.cluster.helm_program import CHART, RELEASE, Helm
from tests.cluster.kubectl import Cluster, Refused
from tests.cluster.plane import ControlPlane
from tests.cluster.test_manifests import BASE, DEPLOYMENTS, NAMESPACE

DIGEST = f"sha256:{'0' * 64}"


def bare(found: dict[str, Any]) -> dict[str, Any]:
    """An object without what says who made it, from which settings, and of which build."""
    metadata = {"name": found["metadata"]["name"]}
    if app := found["metadata"].get("labels", {}).get("app"):
        metadata["app"] = app
    rest = {key: value for key, value in found.items() if key != "metadata"}
    if found["kind"] == "Deployment":
        found["spec"]["template"]["metadata"].pop("annotations", None)
        (container,) = found["spec"]["template"]["spec"]["containers"]
        container.pop("imagePullPolicy", None)
        container["image"] = container["image"].partition(":")[0]
    return {**rest, "metadata": metadata}


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["kind"], one["metadata"]["name"]): bare(one) for one in objects}


def test_it_makes_what_the_base_makes(helm: Helm, cluster: Cluster) -> None:
    based = by_name([one for one in YAML(typ="safe").load_all(cluster.kubectl("kustomize", BASE)) if one])
    assert by_name(helm.objects(NAMESPACE)) == based


def test_helm_finds_nothing_wrong_with_it(helm: Helm) -> None:
    helm("lint", "--strict", str(CHART))


def test_values_reach_the_pods(helm: Helm) -> None:
    values = {
        "image": {"repository": "registry.example/phoenix", "digest": DIGEST, "pullSecrets": ["mine"]},
        "store": "rediss://redis.data:6380/2",
        "prometheus": {"default": ["http://a:9090", "http://b:9090"], "second": ["https://c"]},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "components": {"master-orchestrator": {"replicas": 3}},
        "networkPolicy": {"enabled": False},
    }
    made = {(one["kind"], one["metadata"]["name"]): one for one in helm.objects("release", values)}
    assert made["ConfigMap", "phoenix"]["data"] == {
        "PHOENIX_STORE": "rediss://redis.data:6380/2",
        "PHOENIX_PROMETHEUS": "http://a:9090 http://b:9090 second=https://c",
    }
    assert ("NetworkPolicy", "phoenix") not in made
    spec = made["Deployment", "master-orchestrator"]["spec"]
    assert spec["replicas"] == 3
    pod = spec["template"]["spec"]
    assert pod["containers"][0]["image"] == f"registry.example/phoenix@{DIGEST}"
    assert pod["imagePullSecrets"] == [{"name": "mine"}]
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert pod["tolerations"] == [{"key": "infra", "operator": "Exists"}]
    assert made["Deployment", "health-validator"]["spec"]["replicas"] == 2
    (subject,) = made["RoleBinding", "health-validator"]["subjects"]
    assert subject["namespace"] == "release"


def test_one_pod_alone_may_be_drained(helm: Helm) -> None:
    found = helm.objects("release", {"components": {"master-orchestrator": {"replicas": 1}}})
    budgets = {one["metadata"]["name"] for one in found if one["kind"] == "PodDisruptionBudget"}
    assert budgets == {"health-validator", "rollback-controller"}


def test_who_says_whom_pods_may_call_limits_them_to_that(helm: Helm) -> None:
    rules = [{"ports": [{"port": 8443, "protocol": "TCP"}]}]
    for egress, types in (([], ["Ingress"]), (rules, ["Ingress", "Egress"])):
        found = helm.objects("release", {"networkPolicy": {"egress": egress}})
        (policy,) = (one["spec"] for one in found if one["kind"] == "NetworkPolicy")
        assert (policy["policyTypes"], policy.get("egress", [])) == (types, egress)


def test_other_settings_are_other_pods(helm: Helm) -> None:
    def template(**values: Any) -> Any:
        found = helm.objects("phoenix-orch", values)
        return next(one for one in found if one["kind"] == "Deployment")["spec"]["template"]

    assert template() == template()
    assert template() != template(store="redis://other:6379/0")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"imge": {}}, "imge"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"store": "http://redis"}, "/store"),
        ({"prometheus": {"default": ["prometheus:9090"]}}, "/prometheus/default/0"),
        (
            {"components": {"master-orchestrator": {"replicas": 0}}},
            "/components/master-orchestrator/replicas",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, values: dict[str, Any], named: str) -> None:
    with pytest.raises(Refused, match=named):
        helm.objects(NAMESPACE, values)


@pytest.mark.timeout(300)
def test_it_comes_is_renewed_and_goes(helm: Helm, control_plane: ControlPlane) -> None:
    cluster = control_plane
    there = ("--namespace", NAMESPACE)
    cluster.kubectl("create", "namespace", NAMESPACE)
    enforced = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", NAMESPACE, enforced)
    said = helm("install", RELEASE, str(CHART), *there, cluster=cluster)
    assert f"kubectl get rollouts.phoenix-orch.io -n {NAMESPACE}" in said

    def pods() -> list[str]:
        return sorted(
            pod["metadata"]["labels"]["app"] for pod in cluster.get("pods", "-n", NAMESPACE)["items"]
        )

    eventually("all pods are admitted", lambda: pods() == sorted(DEPLOYMENTS * 2))
    before = generations(cluster)
    helm("upgrade", RELEASE, str(CHART), *there, cluster=cluster)
    assert generations(cluster) == before
    helm("uninstall", RELEASE, *there, cluster=cluster)
    assert cluster.get("deployments,roles,configmaps", "-n", NAMESPACE, "-l", "helm.sh/chart")["items"] == []
    assert cluster.get("crd", "rollouts.phoenix-orch.io")["metadata"]["name"] == "rollouts.phoenix-orch.io"


def generations(cluster: Cluster) -> dict[str, int]:
    found = cluster.get("deployments", "-n", NAMESPACE)["items"]
    return {one["metadata"]["name"]: one["metadata"]["generation"] for one in found}
