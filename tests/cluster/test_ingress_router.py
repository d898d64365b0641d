"""The router of Ingresses against a real API server. No ingress controller: what objects say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.cluster.awaiting import eventually
from tests.cluster.kubectl import Cluster, Refused
from tests.cluster.routing import Overtaken, client_of, edit, serving
from tests.unit.kube_objects import ingress, path, shop

from phoenix_orch.kernel.errors import BadState, Conflict, Invalid, NotFound, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import Forbidden
from phoenix_orch.kube.resources import INGRESSES
from phoenix_orch.testing.router_contract import CONTRACT, DATA_PLANE, NEW, OLD, ROUTE, Check
from phoenix_orch.traffic.kube_record import ABORT, TRAFFIC, WEIGHT
from phoenix_orch.traffic.kube_router import Notice
from phoenix_orch.traffic.kube_spec import Chosen, IngressTraffic
from phoenix_orch.traffic.nginx_ingress import NginxIngressRouter
from phoenix_orch.traffic.router import TrafficState

pytestmark = pytest.mark.anyio

NGINX = "nginx.ingress.kubernetes.io/"
CARRIER = f"{ROUTE}-canary"


@pytest.fixture
async def client(cluster: Cluster, namespace: str) -> AsyncIterator[KubeClient]:
    """With the main Ingresses of two routes, and Services that serve."""
    async with client_of(cluster, namespace) as client:
        for name in (ROUTE, "blog"):
            await client.create(INGRESSES, shop(name))
            await serving(client, name, f"{name}-canary")
        yield client


@pytest.fixture
def notices() -> list[Notice]:
    return []


@pytest.fixture
def router(client: KubeClient, notices: list[Notice]) -> NginxIngressRouter:
    return routing(client, notices)


def routing(client: Any, notices: list[Notice], **spec: Any) -> NginxIngressRouter:
    router = NginxIngressRouter(client, client_namespace(client), tell=notices.append, settled=0.0)
    for name in (ROUTE, "blog"):
        router.declare(name, IngressTraffic(ingress=name, **spec))
    return router


def client_namespace(client: Any) -> str:
    return str(client._client.namespace if isinstance(client, Overtaken) else client.namespace)


async def release_at(router: NginxIngressRouter, weight: int) -> TrafficState:
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    return await router.write(state.model_copy(update={"canary": NEW, "weight": weight}))


async def said(client: KubeClient, name: str = CARRIER) -> dict[str, str]:
    return dict((await client.get(INGRESSES, name))["metadata"]["annotations"])


@pytest.mark.parametrize("check", CONTRACT + DATA_PLANE, ids=lambda check: check.__name__)
async def test_contract(check: Check, router: NginxIngressRouter) -> None:
    await check(router)


@pytest.fixture
async def second(client: KubeClient, notices: list[Notice]) -> NginxIngressRouter:
    """A router of the shop behind two Ingresses."""
    await client.create(INGRESSES, ingress("mobile", ("m.example.com", path(ROUTE))))
    return routing_two(client, notices)


def routing_two(client: Any, notices: list[Notice]) -> NginxIngressRouter:
    router = routing(client, notices)
    router.declare(ROUTE, IngressTraffic(ingress=ROUTE, additional=("mobile",)))
    return router


async def both(client: KubeClient) -> list[str]:
    return [(await said(client, name))[f"{NGINX}canary-weight"] for name in (CARRIER, "mobile-canary")]


@pytest.mark.parametrize("check", CONTRACT + DATA_PLANE, ids=lambda check: check.__name__)
async def test_contract_with_several_ingresses(check: Check, second: NginxIngressRouter) -> None:
    await check(second)


async def test_several_ingresses_move_together(
    cluster: Cluster, client: KubeClient, second: NginxIngressRouter, notices: list[Notice]
) -> None:
    async with client_of(cluster, client.namespace, "somebody") as other:
        overtaken = Overtaken(client, other)
        await release_at(routing_two(overtaken, notices), 40)
        assert await both(client) == ["40", "40"]
        assert (await second.observe(ROUTE)).weight == 40
        after = await routing_two(overtaken, notices).abort(ROUTE, "new")
        assert (after.weight, after.aborted) == (0, ("new",))
        assert overtaken.conflicts >= 4
    assert await both(client) == ["0", "0"]
    assert [(await said(client, name))[ABORT] for name in (CARRIER, "mobile-canary")] == ["new", "new"]
    await second.release(ROUTE)
    names = [one["metadata"]["name"] for one in (await client.list(INGRESSES)).items]
    assert sorted(names) == ["blog", "mobile", ROUTE]


async def test_an_abort_meets_one_ingress_that_refuses_every_write(
    cluster: Cluster, client: KubeClient, second: NginxIngressRouter
) -> None:
    """An admission policy is in the way of one; the other has no weight any more, at once."""
    await release_at(second, 40)
    refuse_writes(cluster, client.namespace, CARRIER)
    with pytest.raises(Invalid, match="denied request"):
        await second.abort(ROUTE, "new")
    assert await both(client) == ["40", "0"]
    assert (await second.read(ROUTE)).aborted == ("new",)
    assert (await second.observe(ROUTE)).weight == 40
    cluster.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", client.namespace)


async def test_two_processes_write_several_ingresses_at_once(
    client: KubeClient, second: NginxIngressRouter, notices: list[Notice]
) -> None:
    other = routing_two(client, notices)
    state = await release_at(second, 5)
    for round_ in range(5):
        wanted = [state.model_copy(update={"weight": weight}) for weight in (20, 40)]
        calls = [second.write(wanted[0]), other.write(wanted[1]), other.abort(ROUTE, "new")]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, (TrafficState, Conflict, Retryable)) for result in results), results
        assert isinstance(results[2], TrafficState)
        assert (await second.read(ROUTE)).aborted == ("new",)
        await second.abort(ROUTE, "new")
        assert await both(client) == ["0", "0"], round_
        state = await second.clear_latch(ROUTE, "new")


def refuse_writes(cluster: Cluster, namespace: str, name: str) -> None:
    """Every change of one Ingress is refused."""
    rule = {"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["ingresses"]}
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": namespace},
        "spec": {
            "matchConstraints": {"resourceRules": [{**rule, "operations": ["UPDATE"]}]},
            "validations": [
                {"expression": f"request.namespace != '{namespace}' || request.name != '{name}'"},
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Deny"]},
    }
    for one in (policy, binding):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(one))
    words = ("annotate", "ingress", name, "-n", namespace, "--dry-run=server", "--overwrite", "probe=1")

    def in_force() -> bool:
        try:
            cluster.kubectl(*words)
        except Refused:
            return True
        return False

    eventually("the policy is in force", in_force, 120)


async def test_kubectl_shows_the_weight_and_the_main_ingress_is_never_written(
    cluster: Cluster, client: KubeClient, router: NginxIngressRouter
) -> None:
    before = await client.get(INGRESSES, ROUTE)
    await release_at(router, 5)
    table = cluster.kubectl("get", "ingress", "-n", client.namespace, "-L", WEIGHT)
    head, *rows = [line.split() for line in table.splitlines()]
    assert head[-1] == "WEIGHT"
    assert [(row[0], row[-1]) for row in rows if row[0].startswith(CARRIER)] == [(CARRIER, "5")]
    await router.abort(ROUTE, "new")
    await router.release(ROUTE)
    assert await client.get(INGRESSES, ROUTE) == before
    with pytest.raises(NotFound):
        await client.get(INGRESSES, CARRIER)


async def test_everything_of_the_main_ingress_is_kept(client: KubeClient, notices: list[Notice]) -> None:
    """Several hosts and paths, path types, class, TLS, annotations; paths of other Services stay out."""
    main = ingress(
        "rich",
        ("a.example.com", path("rich")),
        ("a.example.com", path("rich", "/exact", "Exact")),
        ("b.example.com", path("other", "/other")),
        ("c.example.com", path("rich", "/c", "ImplementationSpecific")),
        annotations={f"{NGINX}proxy-body-size": "8m", "team": "shop", "cert-manager.io/issuer": "x"},
        tls=[{"hosts": ["a.example.com"], "secretName": "a-tls"}],
    )
    await client.create(INGRESSES, main)
    await serving(client, "rich", "rich-canary")
    router = NginxIngressRouter(client, client.namespace, tell=notices.append)
    router.declare("rich", IngressTraffic(ingress="rich", service="rich"))
    await router.write(TrafficState(route="rich", stable=OLD, canary=NEW, weight=5))
    canary = await client.get(INGRESSES, "rich-canary")
    assert canary["spec"]["tls"] == main["spec"]["tls"]
    assert canary["spec"]["ingressClassName"] == "nginx"
    found = [
        (rule["host"], one["path"], one["pathType"], one["backend"]["service"]["name"])
        for rule in canary["spec"]["rules"]
        for one in rule["http"]["paths"]
    ]
    assert found == [
        ("a.example.com", "/", "Prefix", "rich-canary"),
        ("a.example.com", "/exact", "Exact", "rich-canary"),
        ("c.example.com", "/c", "ImplementationSpecific", "rich-canary"),
    ]
    annotations = canary["metadata"]["annotations"]
    assert (annotations[f"{NGINX}proxy-body-size"], annotations["team"]) == ("8m", "shop")
    assert "cert-manager.io/issuer" not in annotations


async def test_the_canary_follows_the_main_ingress(client: KubeClient, router: NginxIngressRouter) -> None:
    state = await release_at(router, 5)
    more = shop()["spec"]["rules"] + [{"host": "new.example.com", "http": {"paths": [path(ROUTE)]}}]
    await edit(client, INGRESSES, ROUTE, {"spec": {"rules": more}})
    assert (await router.read(ROUTE)).drifted
    await router.write(state)
    hosts = [rule["host"] for rule in (await client.get(INGRESSES, CARRIER))["spec"]["rules"]]
    assert hosts == ["shop.example.com", "new.example.com"]
    assert not (await router.read(ROUTE)).drifted


async def test_a_conflict_on_every_write(cluster: Cluster, client: KubeClient, notices: list[Notice]) -> None:
    async with client_of(cluster, client.namespace, "somebody") as other:
        overtaken = Overtaken(client, other)
        router = routing(overtaken, notices)
        await release_at(router, 40)
        after = await router.abort(ROUTE, "new")
        assert (after.weight, after.aborted, after.version) == (0, ("new",), 3)
        assert (await router.clear_latch(ROUTE, "new")).aborted == ()
        assert overtaken.conflicts >= 4
    assert (await said(client))[f"{NGINX}canary-weight"] == "0"


async def test_two_processes_write_at_once(client: KubeClient, notices: list[Notice]) -> None:
    """Weights and aborts of two routers interleave; after each abort the revision has no weight."""
    one, other = routing(client, notices), routing(client, notices)
    state = await release_at(one, 5)
    for round_ in range(5):
        wanted = [state.model_copy(update={"weight": weight}) for weight in (20, 40)]
        calls = [one.write(wanted[0]), other.write(wanted[1]), other.abort(ROUTE, "new")]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, (TrafficState, Conflict)) for result in results), results
        assert (await said(client))[f"{NGINX}canary-weight"] == "0", round_
        state = await one.clear_latch(ROUTE, "new")


async def test_a_hands_change_is_named_and_put_back(
    cluster: Cluster, client: KubeClient, router: NginxIngressRouter, notices: list[Notice]
) -> None:
    state = await release_at(router, 5)
    cluster.kubectl(
        *("annotate", "ingress", CARRIER, "-n", client.namespace, "--overwrite"),
        *(f"{NGINX}canary-weight=70", f"{NGINX}canary-by-header=X-Sneak"),
    )
    drifted = await router.read(ROUTE)
    assert (drifted.drifted, drifted.weight) == (True, 70)
    await router.write(drifted.model_copy(update={"weight": 5}))
    annotations = await said(client)
    assert annotations[f"{NGINX}canary-weight"] == "5"
    assert f"{NGINX}canary-by-header" not in annotations
    assert [notice.reason for notice in notices] == ["Drift"]
    assert "canary-by-header is 'X-Sneak'" in notices[0].message
    assert "last changed by kubectl-annotate at 20" in notices[0].message
    assert state.version == 2


async def test_a_deleted_canary_ingress_is_made_again_within_a_pass(
    client: KubeClient, router: NginxIngressRouter, notices: list[Notice]
) -> None:
    await release_at(router, 40)
    await client.delete(INGRESSES, CARRIER)
    with pytest.raises(NotFound):
        await router.read(ROUTE)
    again = await router.write(TrafficState(route=ROUTE, stable=OLD, canary=NEW, weight=40))
    assert (again.weight, (await said(client))[f"{NGINX}canary-weight"]) == (40, "40")
    await router.abort(ROUTE, "new")
    await client.delete(INGRESSES, CARRIER)
    latched = await router.write(TrafficState(route=ROUTE, stable=OLD, canary=NEW))
    assert (latched.aborted, latched.weight) == (("new",), 0)
    assert [notice.reason for notice in notices] == ["Recreated", "Recreated"]


async def test_what_is_not_ours_is_refused(client: KubeClient, router: NginxIngressRouter) -> None:
    theirs = shop(CARRIER, annotations={f"{NGINX}canary": "true", f"{NGINX}canary-weight": "7"})
    theirs["spec"]["rules"] = shop()["spec"]["rules"]
    await client.create(INGRESSES, theirs)
    before = await client.get(INGRESSES, CARRIER)
    with pytest.raises(BadState, match=f"'{CARRIER}' is not Phoenix's to change.*label it"):
        await router.write(TrafficState(route=ROUTE, stable=OLD))
    with pytest.raises(NotFound):
        await router.abort(ROUTE, "new")
    assert await client.get(INGRESSES, CARRIER) == before


@pytest.mark.parametrize("how", ["mark", "claim"])
async def test_the_guides_canary_ingress_is_taken_over_and_given_back(
    client: KubeClient, notices: list[Notice], how: str
) -> None:
    """`k8s/canary/traffic-control.yaml`: the user's own, with its weight."""
    labels = {"phoenix-orch.io/route": ROUTE} if how == "mark" else {}
    annotations = {f"{NGINX}canary": "true", f"{NGINX}canary-weight": "5", "team": "shop"}
    theirs = shop(CARRIER, annotations=annotations, labels=labels)
    theirs["spec"]["rules"] = [{"host": "shop.example.com", "http": {"paths": [path(CARRIER)]}}]
    before = await client.create(INGRESSES, theirs)
    router = routing(client, notices, claim=how == "claim")
    with pytest.raises(NotFound):
        await router.read(ROUTE)
    await router.write(TrafficState(route=ROUTE, stable=OLD))
    assert (await said(client))[f"{NGINX}canary-weight"] == "0"
    await router.release(ROUTE)
    after = await client.get(INGRESSES, CARRIER)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["annotations"] == annotations | {f"{NGINX}canary-weight": "0"}
    assert after["metadata"].get("labels", {}) == labels


async def test_one_canary_for_each_rule(client: KubeClient, router: NginxIngressRouter) -> None:
    theirs = shop("experiment", annotations={f"{NGINX}canary": "true"})
    theirs["spec"]["rules"] = [{"host": "shop.example.com", "http": {"paths": [path("experiment")]}}]
    await client.create(INGRESSES, theirs)
    with pytest.raises(BadState, match=r"Ingress 'experiment' is a canary of shop\.example\.com / already"):
        await router.write(TrafficState(route=ROUTE, stable=OLD))


async def test_what_phoenix_may_not_do_is_said(cluster: Cluster, client: KubeClient, namespace: str) -> None:
    account = cluster.service_account(namespace, "reader")
    cluster.kubectl(*f"create role reader -n {namespace} --verb=get,list --resource=ingresses".split())
    cluster.kubectl(*f"create rolebinding reader -n {namespace} --role=reader --user=x".split())
    words = f"--serviceaccount={namespace}:reader"
    cluster.kubectl("create", "rolebinding", "reads", "-n", namespace, "--role=reader", words)
    reader = Cluster(account, cluster.folder)
    async with client_of(reader, namespace) as limited:
        router = NginxIngressRouter(limited, namespace)
        router.declare(ROUTE, IngressTraffic(ingress=ROUTE))
        with pytest.raises(Forbidden, match=r"verbs: \[\"create\"\]"):
            await router.write(TrafficState(route=ROUTE, stable=OLD))


async def test_the_api_server_keeps_a_record_of_thousands_of_latches(router: NginxIngressRouter) -> None:
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    many = tuple(f"{number:010x}" for number in range(5000))
    await router.write(state.model_copy(update={"aborted": many}))
    assert (await router.read(ROUTE)).aborted == many


async def test_chosen_requests_go_with_the_latch(client: KubeClient, notices: list[Notice]) -> None:
    router = routing(client, notices, chosen=Chosen(header="X-Canary", value="me", cookie="canary"))
    await release_at(router, 5)
    chosen = {f"{NGINX}canary-by-header", f"{NGINX}canary-by-header-value", f"{NGINX}canary-by-cookie"}
    assert chosen <= set(await said(client))
    await router.abort(ROUTE, "new")
    left = await said(client)
    assert not chosen & set(left)
    assert left[ABORT] == "new"
    assert left[f"{NGINX}affinity-canary-behavior"] == "legacy"
    assert TRAFFIC in left


async def test_an_unusable_main_ingress_is_refused(client: KubeClient, notices: list[Notice]) -> None:
    await client.create(INGRESSES, ingress("two", ("a.example.com", path("a")), ("b.example.com", path("b"))))
    router = NginxIngressRouter(client, client.namespace)
    router.declare("two", IngressTraffic(ingress="two"))
    with pytest.raises(Invalid, match=r"sends to 2 Services: a, b.*say which one"):
        await router.write(TrafficState(route="two", stable=OLD))
    router.declare("two", IngressTraffic(ingress="none"))
    with pytest.raises(NotFound, match="Ingress 'none' does not exist"):
        await router.write(TrafficState(route="two", stable=OLD))
