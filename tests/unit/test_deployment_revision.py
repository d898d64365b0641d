"""What makes a revision another one, and what does not."""

from __future__ import annotations

import base64
from copy import deepcopy
from typing import Any

import pytest
from tests.unit.deployment_setting import deployment, template

from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.defaults import quantity
from phoenix_orch.workload.deployment.revision import (
    Contents,
    Reference,
    adopted,
    digested,
    marked,
    references,
    revision,
    running,
    template_hash,
)

SETTINGS, KEYS = Reference("ConfigMap", "settings"), Reference("Secret", "keys")

WRITTEN = template(
    "registry.example/shop:1.2@sha256:0f",
    initContainers=[{"name": "migrate", "image": "migrate"}],
    serviceAccountName="shop",
    volumes=[
        {"name": "scratch", "emptyDir": {"sizeLimit": "1024Mi"}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    ],
)
WRITTEN["spec"]["containers"][0] |= {
    "ports": [{"containerPort": 8080}],
    "env": [
        {"name": "EMPTY", "value": ""},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ],
    "readinessProbe": {"httpGet": {"port": 8080}},
    "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}},
}


def stored(written: dict[str, Any]) -> dict[str, Any]:
    """What the API server makes of `WRITTEN`."""
    found = deepcopy(written)
    found["metadata"]["creationTimestamp"] = None
    found["spec"] |= {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "serviceAccount": "shop",
    }
    shop, migrate = found["spec"]["containers"][0], found["spec"]["initContainers"][0]
    for container in (shop, migrate):
        container |= {
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
    migrate |= {"imagePullPolicy": "Always", "resources": {}}
    shop["imagePullPolicy"] = "IfNotPresent"
    shop["ports"][0]["protocol"] = "TCP"
    del shop["env"][0]["value"]
    shop["env"][1]["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
    shop["env"][2]["valueFrom"]["resourceFieldRef"]["divisor"] = "0"
    shop["readinessProbe"] |= {
        "httpGet": {"port": 8080, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    shop["resources"] = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}
    found["spec"]["volumes"][0]["emptyDir"]["sizeLimit"] = "1Gi"
    found["spec"]["volumes"][1]["configMap"]["defaultMode"] = 420
    found["spec"]["volumes"][2]["projected"]["defaultMode"] = 420
    found["spec"]["volumes"][2]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] = 3600
    return found


def test_defaults_that_the_api_server_fills_in_change_nothing() -> None:
    assert template_hash(stored(WRITTEN)) == template_hash(WRITTEN)


@pytest.mark.parametrize(
    "change",
    [
        {"restartPolicy": "Never"},
        {"terminationGracePeriodSeconds": 31},
        {"serviceAccountName": "other"},
        {"nodeSelector": {"disk": "ssd"}},
        {"securityContext": {"runAsNonRoot": True}},
        {"hostNetwork": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_differs_from_a_default_is_another_revision(change: dict[str, Any]) -> None:
    other = deepcopy(WRITTEN)
    other["spec"] |= change
    assert template_hash(other) != template_hash(WRITTEN)


def test_a_pull_policy_that_is_no_default_is_another_revision() -> None:
    other = stored(WRITTEN)
    other["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    assert template_hash(other) != template_hash(WRITTEN)


def test_our_marks_and_a_restart_run_the_same() -> None:
    other = deepcopy(WRITTEN)
    other["metadata"]["labels"] |= {marks.VARIANT: "canary", marks.POD_TEMPLATE_HASH: "abc"}
    other["metadata"]["annotations"] = {marks.RESTARTED_AT: "2026-11-27T12:00:00Z", marks.REVISION: "x"}
    assert template_hash(other) == template_hash(WRITTEN)
    other["metadata"]["annotations"]["vault.hashicorp.com/role"] = "shop"
    assert template_hash(other) != template_hash(WRITTEN)


@pytest.mark.parametrize(
    ("one", "other"), [("1000m", "1"), ("1Gi", "1024Mi"), ("1e3", "1k"), ("0.5", "500m"), ("1.5Gi", "1536Mi")]
)
def test_spellings_of_a_quantity(one: str, other: str) -> None:
    assert quantity(one) == quantity(other)
    assert quantity("1") != quantity("1k")
    assert quantity("all") == "all"


# -- configuration ---------------------------------------------------------------------------------

READING = template(
    volumes=[
        {"name": "settings", "configMap": {"name": "settings", "items": [{"key": "a", "path": "a"}]}},
        {"name": "all", "projected": {"sources": [{"secret": {"name": "keys"}}]}},
    ]
)


def config_map(**data: str) -> dict[str, Any]:
    return {"metadata": {"name": "settings"}, "data": data}


def secret(**data: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "keys"},
        "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()},
    }


CONTENTS: dict[Reference, Any] = {SETTINGS: config_map(a="1"), KEYS: secret(key="s3cret")}


def test_everything_that_pods_read_is_referred_to() -> None:
    pods = template(
        initContainers=[{"name": "i", "envFrom": [{"configMapRef": {"name": "from"}}]}],
        volumes=[
            {"name": "s", "secret": {"secretName": "mounted"}},
            {"name": "p", "projected": {"sources": [{"configMap": {"name": "projected"}}]}},
        ],
        imagePullSecrets=[{"name": "registry"}],
    )
    pods["spec"]["containers"][0]["env"] = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "a"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "two", "key": "b", "optional": True}}},
    ]
    assert references(pods) == {
        Reference("ConfigMap", "from"),
        Reference("Secret", "mounted"),
        Reference("ConfigMap", "projected"),
        Reference("ConfigMap", "one"),
        Reference("Secret", "two"),
    }


def test_a_change_of_what_is_read_is_a_revision_of_the_same_template() -> None:
    before = revision(READING, CONTENTS)
    after = revision(READING, {**CONTENTS, KEYS: secret(key="other")})
    assert after.id != before.id
    assert (after.template, after.config != before.config) == (before.template, True)


@pytest.mark.parametrize(
    "same",
    [
        {SETTINGS: config_map(a="1", unread="2")},
        {SETTINGS: {**config_map(a="1"), "immutable": True}},
        {SETTINGS: {**config_map(a="1"), "metadata": {"name": "settings", "labels": {"a": "b"}}}},
    ],
    ids=["a key that nobody reads", "immutable", "labels"],
)
def test_what_pods_do_not_read_changes_nothing(same: Contents) -> None:
    assert revision(READING, {**CONTENTS, **same}) == revision(READING, CONTENTS)


def test_what_is_missing_is_a_content_of_its_own() -> None:
    found = {
        revision(READING, contents).id
        for contents in (
            CONTENTS,
            {**CONTENTS, SETTINGS: None},
            {**CONTENTS, SETTINGS: config_map()},
            {**CONTENTS, SETTINGS: config_map(a="missing")},
        )
    }
    assert len(found) == 4


def test_no_value_of_a_secret_is_in_a_revision() -> None:
    assert "s3cret" not in repr(revision(READING, CONTENTS))


def test_binary_and_text_of_the_same_bytes_read_alike() -> None:
    binary = {"binaryData": {"a": base64.b64encode(b"1").decode()}}
    assert revision(READING, {**CONTENTS, SETTINGS: binary}) == revision(READING, CONTENTS)


def test_what_runs_is_what_was_promoted_until_somebody_changes_the_template() -> None:
    promoted = revision(READING, CONTENTS)
    stable = marked(deepcopy(READING), promoted)
    edited = {**CONTENTS, KEYS: secret(key="rotated")}
    assert running(stable, edited) == promoted.id
    assert revision(stable, edited).id != promoted.id
    stable["spec"]["containers"][0]["image"] = "shop:3"
    assert running(stable, edited) == revision(stable, edited).id


def test_hashes_of_values_are_as_good_as_values() -> None:
    kept = {reference: digested(reference.kind, found) for reference, found in CONTENTS.items()}
    assert revision(READING, kept) == revision(READING, CONTENTS)
    assert "s3cret" not in repr(kept)
    assert base64.b64encode(b"s3cret").decode() not in repr(kept)


def test_what_a_deployment_ran_when_it_was_claimed_is_written_down_once() -> None:
    stable = deployment(pods=deepcopy(READING))
    first = revision(READING, CONTENTS)
    stable["metadata"]["annotations"] = adopted(stable, CONTENTS)
    edited = {**CONTENTS, KEYS: secret(key="rotated")}
    assert adopted(stable, edited) == {}
    assert running(stable["spec"]["template"], edited, stable) == first.id
    stable["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:3"
    assert adopted(stable, edited)[marks.REVISION] == revision(stable["spec"]["template"], edited).id
    assert adopted(deployment(pods=marked(READING, first)), edited) == {}
