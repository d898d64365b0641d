"""Whose a Kubernetes token is, and what it opens: TokenReview and LocalSubjectAccessReview."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix_orch.kernel.errors import Retryable, Unauthenticated
from phoenix_orch.kube.errors import Call, Forbidden
from phoenix_orch.kube.resources import Object, Resource
from phoenix_orch.security.kube_review import ACCESS_REVIEWS, AUDIENCE, KEPT, LIFETIME, KubeReviews
from phoenix_orch.security.rights import Grant, Kind, Principal, Role

pytestmark = pytest.mark.anyio
SECRET = "a-token-that-is-told-nobody"


class Cluster:
    """Knows one token of a user called ann, and the verbs that rules give her."""

    namespace = "shops"

    def __init__(self, *verbs: str, audience: str = "") -> None:
        self.verbs = verbs
        self.audience = audience
        self.calls: list[Object] = []
        self.fault: Exception | None = None

    async def post(self, resource: Resource, body: Object, *, namespace: str = "") -> Object:
        self.calls.append(body)
        if self.fault is not None:
            raise self.fault
        spec: dict[str, Any] = body["spec"]
        if resource == ACCESS_REVIEWS:
            assert (namespace, spec["user"], spec["groups"]) == ("shops", "ann", ["shopkeepers"])
            wanted = spec["resourceAttributes"]
            assert (wanted["group"], wanted["resource"], wanted["namespace"]) == (
                "phoenix-orch.io",
                "api",
                "shops",
            )
            return {"status": {"allowed": wanted["verb"] in self.verbs}}
        known = spec["token"] == SECRET and spec.get("audiences", [""]) == [self.audience]
        user = {"username": "ann", "groups": ["shopkeepers"]}
        return {"status": {"authenticated": known, "user": user if known else {}}}


@pytest.mark.parametrize(
    ("verbs", "role"),
    [
        (["read"], Role.VIEWER),
        (["read", "operate"], Role.OPERATOR),
        (["approve"], Role.APPROVER),
        (["read", "operate", "approve", "administer"], Role.ADMIN),
    ],
)
@pytest.mark.parametrize("audience", ["", AUDIENCE])
async def test_rules_of_the_cluster_make_the_role(verbs: list[str], role: Role, audience: str) -> None:
    found = await KubeReviews(Cluster(*verbs, audience=audience)).principal(SECRET)
    assert found == Principal("ann", Kind.KUBERNETES, (Grant(role),))


async def test_who_is_known_and_has_no_rights_gets_none() -> None:
    found = await KubeReviews(Cluster()).principal(SECRET)
    assert found == Principal("ann", Kind.KUBERNETES)


@pytest.mark.parametrize("token", ["another", "", "x" * 100_000])
async def test_who_has_no_token_of_the_cluster_is_nobody(token: str) -> None:
    cluster = Cluster("read")
    assert await KubeReviews(cluster).principal(token) is None
    assert len(cluster.calls) == (2 if token == "another" else 0)


async def test_an_answer_counts_for_ten_seconds_and_no_longer() -> None:
    now, cluster = [100.0], Cluster("read")
    reviews = KubeReviews(cluster, clock=lambda: now[0])
    await reviews.principal(SECRET)
    asked = len(cluster.calls)
    cluster.verbs = ()
    now[0] += LIFETIME - 0.1
    before = await reviews.principal(SECRET)
    assert before is not None
    assert (before.grants, len(cluster.calls)) == ((Grant(Role.VIEWER),), asked)
    now[0] += 0.1
    after = await reviews.principal(SECRET)
    assert after is not None
    assert after.grants == ()


async def test_an_error_is_told_and_not_kept() -> None:
    cluster = Cluster("read")
    reviews = KubeReviews(cluster)
    cluster.fault = Retryable("the API server is away")
    with pytest.raises(Retryable):
        await reviews.principal(SECRET)
    cluster.fault = None
    assert await reviews.principal(SECRET) is not None


async def test_without_the_right_to_ask_nobody_is_known_and_the_remedy_says_why() -> None:
    cluster = Cluster("read")
    call = Call("create", ACCESS_REVIEWS, "", "")
    cluster.fault = Forbidden(f"no {SECRET}", call=call)
    with pytest.raises(Unauthenticated) as refused:
        await KubeReviews(cluster).principal(SECRET)
    assert "tokenreviews" in refused.value.remedy
    assert SECRET not in f"{refused.value} {refused.value.remedy}"


async def test_no_number_of_wrong_tokens_fills_the_memory() -> None:
    reviews = KubeReviews(Cluster())
    for number in range(KEPT + 50):
        assert await reviews.principal(f"wrong-{number}") is None
    assert len(reviews._known) == KEPT
