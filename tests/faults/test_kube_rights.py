"""Least privilege: each process and each person may do exactly what they do, by the API server's own log.

Everything that Phoenix does in a cluster is done once, on both routers, with the rights of `k8s/base` and
no others. A right that nobody has used, and a call that was denied, fail. What reads configurations for a
backup is an account of its own, with the rights of `k8s/backup`, which its own tests count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML
from tests.cluster.plane import ControlPlane
from tests.cluster.replicas import people
from tests.cluster.serving import ACCOUNTS, rights
from tests.cluster.test_deployment_rights import single
from tests.faults.kube_phoenix import Orders, Process
from tests.faults.kube_stage import (
    CANARY,
    HTTP_ROUTE,
    INGRESS,
    NAME,
    ROUTERS,
    SPEC,
    Stage,
    a_stage,
    kubeconfig_of,
)
from tests.faults.test_kube_abort import crashes

from phoenix_orch.client.cluster import ClusterClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.resources import (
    DEPLOYMENTS,
    INGRESSES,
    LEASES,
    ROLLOUTS,
    SERVICES,
    Resource,
)
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.cluster.parts import Pace
from phoenix_orch.rollout import crd
from phoenix_orch.rollout.status import CommandKind
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.testing.api_faults import Answer
from phoenix_orch.testing.faulty_api_server import FaultyApiServer

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

PAGE = Path(__file__).parents[2] / "docs/how-to/kubernetes.md"
PERSON = "person"
SLOW_STEPS: dict[str, Any] = {
    **SPEC,
    "phases": [
        {"name": "initial", "weight": 20, "duration": "3s", "limits": {"errorRate": "1%"}},
        {"name": "full", "step": 80, "every": "1s", "limits": {"errorRate": "1%"}},
    ],
    "policy": {"bake": "1s"},
}
Right = tuple[str, str, str]
BY_CHANCE: set[Right] = {
    ("events.k8s.io", "events", "patch"),  # where the very same thing happens twice within six minutes
    ("networking.k8s.io", "ingresses", "delete"),  # where the garbage collector was not quicker
    ("phoenix-orch.io", "rollouts", "get"),  # the controller, where somebody else has written in between
}


def of_a_person() -> list[dict[str, Any]]:
    """The rules that the page has for who steers a release."""
    block = re.search(r"```yaml\n(- \{apiGroups.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block is not None
    rules: list[dict[str, Any]] = YAML(typ="safe").load(block[1])
    return rules


def granted(account: str) -> set[Right]:
    """By every Role and ClusterRole of the manifests that is bound to it."""
    made = rights("any")
    bound = {
        (one["roleRef"]["kind"], one["roleRef"]["name"])
        for one in made
        for subject in one.get("subjects", ())
        if (subject["kind"], subject["name"]) == ("ServiceAccount", account)
    }
    roles = [one for one in made if (one["kind"], one["metadata"]["name"]) in bound]
    assert len(roles) == len(bound), "a binding names a role that no manifest has"
    return single(rule for role in roles for rule in role["rules"])


def test_rights_of_every_role_that_is_bound_to_an_account_count() -> None:
    found = granted("master-orchestrator")
    assert ("apps", "deployments", "patch") in found
    assert ("apps", "deployments", "create") in found
    assert ("authentication.k8s.io", "tokenreviews", "create") in found
    assert ("authentication.k8s.io", "tokenreviews", "create") not in granted("health-validator")


def role_of_a_person(namespace: str) -> list[dict[str, Any]]:
    api = "rbac.authorization.k8s.io"
    metadata = {"name": PERSON, "namespace": namespace}
    return [
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": of_a_person()},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": PERSON},
            "subjects": [{"kind": "ServiceAccount", "name": PERSON, "namespace": namespace}],
        },
    ]


def accounts_in(cluster: ControlPlane, namespace: str) -> dict[str, Path]:
    """Kubeconfigs with the rights of the manifests and of the page."""
    cluster.apply(*rights(namespace), *role_of_a_person(namespace), *people(namespace))
    names = {**ACCOUNTS, PERSON: PERSON}
    return {name: cluster.service_account(namespace, account) for name, account in names.items()}


def without_rules_between_versions(cluster: ControlPlane) -> None:
    """The definition as it was before it kept a release from naming something else."""
    older = crd.definition()
    for version in older["spec"]["versions"]:
        version["schema"]["openAPIV3Schema"].pop("x-kubernetes-validations")
    cluster.apply(older)


class Actor:
    """Does everything there is to do, once, on one stage."""

    def __init__(self, stage: Stage, accounts: dict[str, Path], store: str, folder: Path, token: str) -> None:
        """`accounts`: kubeconfigs of the components, and of the person. `token`: of who calls the API."""
        self.stage = stage
        self._token = token
        self.access = Access(stage.namespace, accounts[PERSON])
        kubeconfigs = {component: accounts[component] for component in ACCOUNTS}
        log = folder / f"{stage.namespace}.log"
        self._orders = Orders(kubeconfigs, stage.namespace, store, log, pace=Pace(settled=0.5), api=True)
        self._process: Process | None = None

    def start(self, *components: str) -> None:
        """All of them, where none is named."""
        wanted = components or tuple(self._orders.kubeconfigs)
        kubeconfigs = {one: self._orders.kubeconfigs[one] for one in wanted}
        self._process = Process(replace(self._orders, kubeconfigs=kubeconfigs))

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()

    def tail(self) -> str:
        return self._process.tail() if self._process is not None else ""

    async def everything(self, server: FaultyApiServer) -> None:
        """`server`: in front of the orchestrator's API server."""
        for resource in ("deployments", "services"):  # who is too late looks again
            server.inject(Answer(409, "Conflict"), verb="patch", resource=resource)
        stage = self.stage
        await self._reaches("Idle")
        await stage.release("shop:2")
        await self._weight(20)
        await self._drift()
        await self._reaches("Promoted")
        await self._crash()
        await self._person()
        await self._api()
        await self._lose_leases()
        await self._lose_the_router()
        await self._leave()

    async def _reaches(self, *states: str) -> None:
        await self.stage.until(f"it is {states}", lambda view: view.state in states, 240, self.tail)

    async def _weight(self, weight: int) -> None:
        await self.stage.until(f"weight {weight}", lambda view: view.weight == weight, 240, self.tail)

    async def _next(self, image: str) -> None:
        """Another release, as `kubectl set image` on the canary makes one."""
        number = self.stage.view.status["release"]
        sources = [{kind: {"name": "shop", "optional": True}} for kind in ("configMapRef", "secretRef")]
        template = {"spec": {"containers": [{"name": "shop", "image": image, "envFrom": sources}]}}
        await self.stage.edit(DEPLOYMENTS, CANARY, {"spec": {"replicas": 1, "template": template}})
        await self.stage.until(
            "another release", lambda view: view.status["release"] > number, 120, self.tail
        )

    async def _drift(self) -> None:
        """Somebody's hands on what Phoenix has made: all of it is put back."""
        stage = self.stage
        version = await stage.drift()
        await stage.until("the weight is put back", lambda _: stage.put_back(version), 120, self.tail)
        await stage.edit(SERVICES, CANARY, {"spec": {"sessionAffinity": "ClientIP"}})
        async with asyncio.timeout(120):
            while (await stage.kube.get(SERVICES, CANARY))["spec"]["sessionAffinity"] != "None":
                await asyncio.sleep(0.1)
        if stage.router == INGRESS:
            await stage.kube.delete(INGRESSES, CANARY)
            await stage.until(
                "the Ingress is made again", lambda view: view.carrier is not None, 120, self.tail
            )

    async def _crash(self) -> None:
        """An instant event: the rollback controller takes it back, and everybody asks for the events."""
        await self._next("shop:3")
        await self._weight(20)
        await crashes(self.stage)
        await self._reaches("RolledBack")

    async def _person(self) -> None:
        """Every word of the command line."""
        await self._ask(lambda client: client.rollout(NAME))
        await self._say(CommandKind.RETRY)
        await self._reaches("Starting", "Progressing")
        await self._say(CommandKind.PAUSE)
        await self._reaches("Paused")
        await self._say(CommandKind.RESUME)
        await self._weight(20)
        await self._ask(lambda client: client.abort(NAME, reason="a test"))
        await self._reaches("RolledBack")

    async def _say(self, kind: CommandKind) -> None:
        await self._ask(lambda client: client.say(NAME, kind))

    async def _ask(self, call: Callable[[ClusterClient], object]) -> None:
        def ask() -> None:
            with ClusterClient(self.access) as client:
                call(client)

        await asyncio.to_thread(ask)

    async def _api(self) -> None:
        """What the API does with the orchestrator's rights: whose a token is, freezes, and a release."""
        assert await self._call("identity") == 200
        assert await self._call("rollouts") == 200
        assert await self._call("freezes", {"name": "feast", "reason": "a test"}) == 201
        assert await self._call("freezes/feast/end", {"reason": "a test"}) == 200
        assert await self._call("schedules/audit-prune/run", {}) == 202
        assert await self._call(f"rollouts/{NAME}/start", {"version": "shop:7"}) == 200
        await self._reaches("Starting", "Progressing")
        await self._weight(20)
        for kind, state in (("pause", "Paused"), ("resume", "Progressing"), ("abort", "RolledBack")):
            said = await self._call(f"rollouts/{NAME}/commands", {"kind": kind, "reason": "a test"})
            assert said == 202, kind
            await self._reaches(state)

    async def _call(self, path: str, body: object = None) -> int:
        """The status of an answer of the API, whose process may be beginning still. POST where there is a
        body."""
        headers = {"Authorization": f"Bearer {self._token}"}
        async with asyncio.timeout(60), httpx.AsyncClient(headers=headers, trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx.ConnectError, IndexError):
                    url = f"http://127.0.0.1:{self._port()}/api/v1/{path}"
                    verb = "GET" if body is None else "POST"
                    return (await client.request(verb, url, json=body, timeout=30)).status_code
                await asyncio.sleep(0.1)

    def _port(self) -> int:
        """Of the API, by the log. Raises IndexError where it has told none yet."""
        assert self._process is not None
        lines = [line for line in self._process.said().splitlines() if '"answers the API"' in line]
        return int(json.loads(lines[-1])["port"])

    async def _lose_leases(self) -> None:
        for lease in ACCOUNTS.values():
            await self.stage.kube.delete(LEASES, lease)
            async with asyncio.timeout(120):
                while not await self._held(lease):
                    await asyncio.sleep(0.1)

    async def _held(self, lease: str) -> bool:
        found = await self.stage.kube.list(LEASES)
        specs = {one["metadata"]["name"]: one.get("spec", {}) for one in found.items}
        return bool(specs.get(lease, {}).get("holderIdentity"))

    async def _lose_the_router(self) -> None:
        """While nothing of Phoenix runs the Rollout is made to name what is not there, which only an older
        definition lets happen: what bears the mark is found all the same, by the rollback controller and by
        a person."""
        for image, abort in (("shop:4", self._crash_blindly), ("shop:5", self._abort_blindly)):
            await self._next(image)
            await self._weight(20)
            self.end()
            other = HTTP_ROUTE if self.stage.router == INGRESS else INGRESS
            await self._name({"ingress": None, "httpRoute": None, other: NAME})
            await abort()
            await self._weight(0)
            self.end()
            await self._name({"ingress": None, "httpRoute": None, self.stage.router: NAME})
            await asyncio.to_thread(self.start)
            await self._reaches("RolledBack")

    async def _crash_blindly(self) -> None:
        await asyncio.to_thread(self.start, "rollback-controller")
        await crashes(self.stage)

    async def _abort_blindly(self) -> None:
        await self._ask(lambda client: client.abort(NAME, reason="a test"))

    async def _name(self, traffic: dict[str, Any]) -> None:
        await self.stage.edit(ROLLOUTS, NAME, {"spec": {"traffic": traffic}})

    async def _leave(self) -> None:
        """The Rollout is deleted: traffic, Service, marks, and the canary that Phoenix made of stable."""
        number = self.stage.view.status["release"]
        await self.stage.kube.delete(DEPLOYMENTS, CANARY)
        begun = {"version": "shop:6", "evenIfUnattainable": True}
        assert await self._call(f"rollouts/{NAME}/start", begun) == 200
        await self.stage.until(
            "another release", lambda view: view.status["release"] > number, 120, self.tail
        )
        await self._weight(20)
        await self.stage.kube.delete(ROLLOUTS, NAME)
        async with asyncio.timeout(300):
            while CANARY in await self._names(SERVICES) | await self._names(DEPLOYMENTS):
                await asyncio.sleep(0.2)

    async def _names(self, resource: Resource) -> set[str]:
        return {one["metadata"]["name"] for one in (await self.stage.kube.list(resource)).items}


def used(events: Iterable[dict[str, Any]]) -> set[Right]:
    """What the API server was asked for, by its audit log."""
    return {
        (about.get("apiGroup", ""), _resource(about), event["verb"])
        for event in events
        if "resource" in (about := event.get("objectRef", {}))
    }


def _resource(about: dict[str, str]) -> str:
    return "/".join(part for part in (about["resource"], about.get("subresource")) if part)


def denied(events: Iterable[dict[str, Any]]) -> list[str]:
    return [
        f"{event['verb']} {event['requestURI']}" for event in events if event["responseStatus"]["code"] == 403
    ]


async def test_each_has_the_rights_that_it_uses_and_no_others(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    keeper = ValkeyServer(tmp_path / "valkey")
    store = (await keeper.ensure()).url
    namespaces = []
    async with AsyncExitStack() as stack:
        actors = []
        for router in ROUTERS:
            stage = await stack.enter_async_context(a_stage(control_plane, router, SLOW_STEPS))
            namespaces.append(stage.namespace)
            without_rules_between_versions(control_plane)
            accounts = await asyncio.to_thread(accounts_in, control_plane, stage.namespace)
            target = load(accounts["orchestrator"], namespace=stage.namespace)
            server = await stack.enter_async_context(FaultyApiServer(target))
            accounts["orchestrator"] = kubeconfig_of(server.target, tmp_path / stage.namespace)
            words = ("create", "token", "admin", "--namespace", stage.namespace, "--duration", "1h")
            token = (await asyncio.to_thread(control_plane.kubectl, *words)).strip()
            actor = Actor(stage, accounts, store, tmp_path, token)
            stack.callback(actor.end)
            await asyncio.to_thread(actor.start)
            actors.append((actor, server))
        async with asyncio.TaskGroup() as group:
            for actor, server in actors:
                group.create_task(actor.everything(server))
    await keeper.stop()
    told = []
    for account, allowed in {
        **{one: granted(one) for one in ACCOUNTS.values()},
        PERSON: single(of_a_person()),
    }.items():
        events = [
            event
            for namespace in namespaces
            for event in control_plane.audit_events(f"system:serviceaccount:{namespace}:{account}")
        ]
        asked = used(events)
        told += [f"{account} was denied: {one}" for one in denied(events)]
        told += [f"{account} uses without a right: {' '.join(one)}" for one in sorted(asked - allowed)]
        unused = sorted(allowed - asked - BY_CHANCE)
        told += [f"{account} has and does not use: {' '.join(one)}" for one in unused]
    assert told == [], "\n".join(told)
