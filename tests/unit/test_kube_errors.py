"""What the API server said becomes an error that says what to do. Bodies are those of a 1.36 API server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phoenix_orch.kernel.errors import Invalid, NotFound, PhoenixError, Retryable, Terminal
from phoenix_orch.kube.errors import (
    AlreadyExists,
    Call,
    Changed,
    FieldConflict,
    FieldOwner,
    Forbidden,
    Gone,
    Throttled,
    Unanswered,
    Unapplicable,
    Unauthenticated,
    status_from,
    translated,
)
from phoenix_orch.kube.resources import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, PODS, ROLLOUTS

PATCH = Call("patch", DEPLOYMENTS, "shop", "web", "status")


def body(code: int, reason: str = "", message: str = "", **details: Any) -> bytes:
    status = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    return json.dumps(status).encode()


def error(call: Call, code: int, data: bytes, retry_after: str | None = None) -> PhoenixError:
    return translated(call, status_from(code, data, retry_after))


def test_forbidden_names_the_missing_rule() -> None:
    found = error(PATCH, 403, body(403, "Forbidden", 'User "alice" cannot patch'))
    assert isinstance(found, Forbidden)
    assert isinstance(found, Terminal)
    assert found.call == PATCH
    assert "may not patch deployments.apps/status web in namespace shop" in found.message
    assert '{apiGroups: ["apps"], resources: ["deployments/status"], verbs: ["patch"]}' in found.remedy
    assert "add to its Role:" in found.remedy


def test_what_admission_refuses_is_no_missing_right() -> None:
    said = 'secrets "db" is forbidden: exceeded quota: full, requested: count/secrets=1, used: 0, limited: 0'
    found = error(PATCH, 403, body(403, "Forbidden", said))
    assert isinstance(found, Forbidden)
    assert found.admission
    assert "does not take" in found.message
    assert "exceeded quota" in found.message
    assert "no rule would help" in found.remedy
    said = 'deployments.apps "web" is forbidden: User "alice" cannot patch resource "deployments"'
    by_rights = error(PATCH, 403, body(403, "Forbidden", said))
    assert isinstance(by_rights, Forbidden)
    assert not by_rights.admission
    webhook = error(PATCH, 403, body(403, "Forbidden", 'admission webhook "x.y" denied the request: no'))
    assert isinstance(webhook, Forbidden)
    assert webhook.admission


@pytest.mark.parametrize("call", [Call("list", PODS), Call("get", NAMESPACES, "", "shop")])
def test_what_is_cluster_wide_needs_a_cluster_role(call: Call) -> None:
    assert "ClusterRole" in error(call, 403, body(403, "Forbidden")).remedy


def test_a_field_conflict_tells_who_owns_what() -> None:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl" with subresource "scale" using apps/v1',
            "field": ".spec.replicas",
        },
        {"reason": "FieldManagerConflict", "message": 'conflict with "argo"', "field": ".spec.paused"},
    ]
    found = error(PATCH, 409, body(409, "Conflict", "Apply failed", causes=causes))
    assert isinstance(found, FieldConflict)
    assert found.owners == (FieldOwner("kubectl", ".spec.replicas"), FieldOwner("argo", ".spec.paused"))
    assert ".spec.replicas belongs to kubectl; .spec.paused belongs to argo" in found.message


def test_invalid_keeps_what_is_said_of_each_field() -> None:
    causes = [
        {
            "reason": "FieldValueInvalid",
            "message": "Invalid value: -1: must be >= 0",
            "field": "spec.replicas",
        },
        {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.image"},
    ]
    found = error(PATCH, 422, body(422, "Invalid", "long text", causes=causes))
    assert type(found) is Invalid
    assert "spec.replicas: Invalid value: -1: must be >= 0; spec.image: Required value" in found.message


@pytest.mark.parametrize(
    ("code", "data", "kind"),
    [
        (401, body(401, "Unauthorized"), Unauthenticated),
        (404, body(404, "NotFound", 'deployments.apps "web" not found'), NotFound),
        (409, body(409, "Conflict", "the object has been modified"), Changed),
        (409, body(409, "AlreadyExists"), AlreadyExists),
        (410, body(410, "Expired"), Gone),
        (
            422,
            body(422, "Invalid", "the server rejected our request due to an error in our request"),
            Unapplicable,
        ),
        (429, body(429, "TooManyRequests"), Throttled),
        (500, body(500, "InternalError"), Unanswered),
        (503, body(503, "ServiceUnavailable"), Unanswered),
        (504, body(504, "Timeout"), Unanswered),
        (502, b"<html>Bad Gateway</html>", Unanswered),
        (418, b"", Terminal),
    ],
)
def test_each_answer_has_its_error(code: int, data: bytes, kind: type[PhoenixError]) -> None:
    found = error(PATCH, code, data)
    assert type(found) is kind
    assert "web" in found.message or "deployments" in found.message


def test_a_kind_that_is_not_served_is_no_missing_object() -> None:
    found = error(Call("list", ROLLOUTS, "shop"), 404, b"404 page not found\n")
    assert isinstance(found, NotFound)
    assert "does not serve rollouts.phoenix-orch.io v1alpha1" in found.message
    assert "Rollout in phoenix-orch.io/v1alpha1" in found.remedy


@pytest.mark.parametrize(
    ("header", "detail", "seconds"), [("7", 0, 7), (None, 3, 3), ("2", 5, 5), ("soon", 0, 0), (None, 0, 0)]
)
def test_how_long_to_wait_is_in_the_header_or_the_body(
    header: str | None, detail: int, seconds: float
) -> None:
    for code in (429, 503):
        found = error(PATCH, code, body(code, retryAfterSeconds=detail), header)
        assert isinstance(found, Throttled | Unanswered)
        assert found.retry_after == seconds


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[]", b"null", b'{"kind":"Pod"}', b"x" * 100_000])
def test_any_body_is_survived_and_kept_short(data: bytes) -> None:
    found = error(Call("get", CONFIG_MAPS, "shop", "a"), 500, data)
    assert isinstance(found, Retryable)
    assert len(found.message) < 500
