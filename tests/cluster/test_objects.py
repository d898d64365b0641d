"""What tests of Phoenix in Kubernetes rely on: objects, controllers, custom resources, rights."""

from __future__ import annotations

import pytest
from tests.cluster.kubectl import Cluster, Refused

PROBE = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "probes.test.phoenix-orch.io"},
    "spec": {
        "group": "test.phoenix-orch.io",
        "scope": "Namespaced",
        "names": {"kind": "Probe", "plural": "probes", "singular": "probe"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"weight": {"type": "integer", "maximum": 100}},
                            }
                        },
                    }
                },
            }
        ],
    },
}


def deployment(namespace: str, replicas: int = 2) -> dict[str, object]:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "example.invalid/web:1"}]},
            },
        },
    }


def test_a_deployment_becomes_a_replica_set_and_pods(cluster: Cluster, namespace: str) -> None:
    cluster.apply(deployment(namespace))
    there = ("--namespace", namespace)
    cluster.kubectl("wait", "deployment/web", *there, "--for=jsonpath={.status.replicas}=2", "--timeout=30s")
    replica_sets = cluster.get("replicasets", *there)["items"]
    pods = cluster.get("pods", *there)["items"]
    assert [owner["name"] for owner in replica_sets[0]["metadata"]["ownerReferences"]] == ["web"]
    assert {pod["metadata"]["ownerReferences"][0]["uid"] for pod in pods} == {
        replica_sets[0]["metadata"]["uid"]
    }
    assert len(pods) == 2


def test_what_a_deployment_owned_is_collected(cluster: Cluster, namespace: str) -> None:
    cluster.apply(deployment(namespace))
    there = ("--namespace", namespace)
    cluster.kubectl("wait", "deployment/web", *there, "--for=jsonpath={.status.replicas}=2", "--timeout=30s")
    cluster.kubectl("delete", "deployment", "web", *there, "--cascade=foreground", "--timeout=30s")
    assert cluster.get("replicasets,pods", *there)["items"] == []


def test_a_custom_resource_is_served_and_checked(cluster: Cluster, namespace: str) -> None:
    cluster.apply(PROBE)
    name = "probes.test.phoenix-orch.io"
    cluster.kubectl("wait", f"crd/{name}", "--for=condition=Established", "--timeout=30s")
    probe = {
        "apiVersion": "test.phoenix-orch.io/v1",
        "kind": "Probe",
        "metadata": {"name": "one", "namespace": namespace},
    }
    cluster.apply({**probe, "spec": {"weight": 5}})
    assert cluster.get(name, "one", "--namespace", namespace)["spec"] == {"weight": 5}
    with pytest.raises(Refused, match="less than or equal to 100"):
        cluster.apply({**probe, "spec": {"weight": 101}})


def test_a_service_account_may_do_what_its_role_says_and_no_more(cluster: Cluster, namespace: str) -> None:
    reader = cluster.service_account(namespace, "reader")
    there = ("--namespace", namespace)
    with pytest.raises(Refused, match="Forbidden"):
        cluster.get("deployments", *there, user=reader)
    cluster.kubectl("create", "role", "reader", "--verb=get,list", "--resource=deployments.apps", *there)
    cluster.kubectl(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:reader", *there
    )
    assert cluster.get("deployments", *there, user=reader)["items"] == []
    with pytest.raises(Refused, match="Forbidden"):
        cluster.apply(deployment(namespace), user=reader)
