"""What of an object is configuration, and which objects are none."""

from __future__ import annotations

import copy
import json

import pytest

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.resources import CONFIG_MAPS, DEPLOYMENTS, SECRETS, SERVICES, Resource
from phoenix_orch.recovery.sources.config_objects import (
    KINDS,
    LAST_APPLIED,
    LEADER,
    RESTARTED_AT,
    SERVICE_ACCOUNTS,
    Choice,
    left_out,
    normalised,
    owners,
    path_of,
)

SERVER = {
    "uid": "4b6c",
    "resourceVersion": "1234",
    "generation": 3,
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "selfLink": "/api/v1/x",
    "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:data": {}}}],
    "ownerReferences": [
        {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "tls", "uid": "9"}
    ],
}


def secret(of_type: str = "Opaque", name: str = "db", **more):
    return {
        "metadata": {"name": name, "namespace": "shop", **SERVER},
        "type": of_type,
        "data": {"p": "aGk="},
        **more,
    }


def test_what_the_api_server_adds_is_dropped_and_what_people_wrote_stays():
    found = secret(immutable=True, status={"x": 1})
    found["metadata"] |= {
        "labels": {"a": "b"},
        "finalizers": ["x/y"],
        "annotations": {"mine": "1", LAST_APPLIED: "{}"},
    }
    before = copy.deepcopy(found)
    assert normalised(found, SECRETS) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "db",
            "namespace": "shop",
            "labels": {"a": "b"},
            "finalizers": ["x/y"],
            "annotations": {"mine": "1"},
        },
        "type": "Opaque",
        "data": {"p": "aGk="},
        "immutable": True,
    }
    assert found == before, "what was read is shared with others, and not changed"


def test_kubectls_copy_of_a_secret_in_clear_goes():
    found = secret()
    found["metadata"]["annotations"] = {LAST_APPLIED: json.dumps({"stringData": {"p": "hunter2-in-clear"}})}
    assert "hunter2-in-clear" not in json.dumps(normalised(found, SECRETS))
    assert "annotations" not in normalised(found, SECRETS)["metadata"]


@pytest.mark.parametrize(
    ("kind", "found", "why"),
    [
        ("Secret", secret("kubernetes.io/service-account-token"), "token"),
        ("Secret", secret("bootstrap.kubernetes.io/token"), "token"),
        ("Secret", secret("helm.sh/release.v1"), "Helm"),
        ("Secret", secret("kubernetes.io/tls"), ""),
        ("ConfigMap", {"metadata": {"name": "kube-root-ca.crt"}}, "cluster"),
        ("ConfigMap", {"metadata": {"name": "istio-ca-root-cert"}}, "cluster"),
        ("ConfigMap", {"metadata": {"name": "lock", "annotations": {LEADER: "{}"}}}, "leads"),
        ("ConfigMap", {"metadata": {"name": "web", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, "deleted"),
        ("ConfigMap", {"metadata": {"name": "web"}}, ""),
        ("ServiceAccount", {"metadata": {"name": "default"}}, "cluster"),
        ("ServiceAccount", {"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "r"}]}, ""),
        ("Service", {"metadata": {"name": "kubernetes", "namespace": "default"}}, "cluster"),
        ("Service", {"metadata": {"name": "kubernetes", "namespace": "shop"}}, ""),
    ],
)
def test_what_is_no_configuration_is_left_out(kind, found, why):
    reason = left_out(found, kind)
    assert why in reason
    assert bool(why) is bool(reason)


def test_helm_and_excluded_names_are_chosen():
    assert left_out(secret("helm.sh/release.v1"), "Secret", Choice(helm_releases=True)) == ""
    assert left_out(secret(), "Secret", Choice(exclude=frozenset({("Secret", "db")})))


def test_a_services_address_is_the_clusters_and_none_stays_none():
    spec = {
        "clusterIP": "10.0.0.7",
        "clusterIPs": ["10.0.0.7"],
        "healthCheckNodePort": 3,
        "ports": [{"port": 80}],
    }
    found = {"metadata": {"name": "web"}, "spec": spec}
    assert normalised(found, SERVICES)["spec"] == {"ports": [{"port": 80}]}
    headless = {"metadata": {"name": "web"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}
    assert normalised(headless, SERVICES)["spec"] == headless["spec"]


def test_a_restart_is_no_configuration():
    template = {
        "metadata": {"creationTimestamp": None, "annotations": {RESTARTED_AT: "2026", "a": "b"}},
        "spec": {},
    }
    found = {
        "metadata": {"name": "web"},
        "spec": {"template": template, "replicas": 2},
        "status": {"replicas": 2},
    }
    assert normalised(found, DEPLOYMENTS)["spec"] == {
        "template": {"metadata": {"annotations": {"a": "b"}}, "spec": {}},
        "replicas": 2,
    }


def test_tokens_of_a_service_account_go():
    found = {
        "metadata": {"name": "web"},
        "secrets": [{"name": "web-token-x"}],
        "imagePullSecrets": [{"name": "r"}],
    }
    kept = normalised(found, SERVICE_ACCOUNTS)
    assert "secrets" not in kept
    assert kept["imagePullSecrets"] == [{"name": "r"}]


def test_normalising_twice_is_normalising_once():
    for resource in KINDS:
        found = {
            "metadata": {"name": "a", **SERVER},
            "spec": {"template": {"metadata": {"creationTimestamp": None}}},
        }
        once = normalised(found, resource)
        assert normalised(once, resource) == once


def test_the_owner_is_told_apart():
    assert owners(secret()) == ["Certificate tls (cert-manager.io/v1)"]
    assert owners({"metadata": {"name": "a"}}) == []


def test_every_object_has_a_place_of_its_own():
    assert path_of(secret(), SECRETS) == "shop/Secret/db.yaml"
    assert path_of({"metadata": {"name": "a"}}, CONFIG_MAPS, "shop") == "shop/ConfigMap/a.yaml"
    knative = Resource("serving.knative.dev", "v1", "services", "Service")
    assert path_of({"metadata": {"name": "a", "namespace": "shop"}}, knative) == (
        "shop/Service.serving.knative.dev/a.yaml"
    )


@pytest.mark.parametrize("name", ["..", ".git", "a/b", "", "a\n", "-a"])
def test_no_name_leads_out_of_the_tree(name):
    with pytest.raises(Invalid, match="no name of a file"):
        path_of({"metadata": {"name": name, "namespace": "shop"}}, CONFIG_MAPS)
