"""What RBAC lets this process do, asked before it is needed (SelfSubjectAccessReview)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import ALL_NAMESPACES, Resource

_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False
)
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Need:
    """A verb on a kind, perhaps on a subresource or one object of it."""

    verb: str
    resource: Resource
    subresource: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else str(self.resource)
        return f"{self.verb} {what}{f' {self.name}' if self.name else ''}"


def needs(resource: Resource, *verbs: str, subresource: str = "") -> list[Need]:
    return [Need(verb, resource, subresource) for verb in verbs]


@dataclass(frozen=True, slots=True)
class Reach:
    """Where this process may do all it needs."""

    namespace: str
    """`ALL_NAMESPACES`, or the one."""
    missing: tuple[Need, ...]
    """What it may not do there; empty when all is well."""

    def require(self) -> None:
        """Raises Terminal, with the rules to add, when something is missing."""
        if self.missing:
            kind = "Role" if self.namespace else "ClusterRole"
            where = f" in namespace {self.namespace}" if self.namespace else " in all namespaces"
            raise Terminal(
                f"Phoenix may not {'; '.join(map(str, self.missing))}{where}",
                remedy=f"add to its {kind}:\n{rules(self.missing)}",
            )


async def allowed(client: KubeClient, need: Need, namespace: str) -> bool:
    """Ask the API server about one need. Raises Retryable."""
    attributes = {
        "verb": need.verb,
        "group": need.resource.group,
        "version": need.resource.version,
        "resource": need.resource.plural,
        "subresource": need.subresource,
        "name": need.name,
        "namespace": namespace if need.resource.namespaced else "",
    }
    spec = {"resourceAttributes": {name: value for name, value in attributes.items() if value}}
    answer = await client.post(_REVIEWS, {"spec": spec})
    return bool((answer.get("status") or {}).get("allowed"))


async def missing(client: KubeClient, needed: Iterable[Need], namespace: str) -> tuple[Need, ...]:
    """Those of `needed` that are not allowed in `namespace`, in their order."""
    wanted = list(needed)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(need: Need) -> bool:
        async with gate:
            return await allowed(client, need, namespace)

    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(ask(need)) for need in wanted]
    return tuple(need for need, answer in zip(wanted, answers, strict=True) if not answer.result())


async def reach(client: KubeClient, needed: Iterable[Need], namespace: str | None = None) -> Reach:
    """Cluster-wide where RBAC allows all of it, else the client's namespace, with what is missing there.

    With `namespace` only that one is asked about.
    """
    wanted = list(needed)
    if namespace is None and not await missing(client, wanted, ALL_NAMESPACES):
        return Reach(ALL_NAMESPACES, ())
    place = client.namespace if namespace is None else namespace
    return Reach(place, await missing(client, wanted, place))


def rules(needed: Iterable[Need]) -> str:
    """The rules of RBAC that allow `needed`, as YAML; verbs on the same things together."""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for need in needed:
        what = f"{need.resource.plural}/{need.subresource}" if need.subresource else need.resource.plural
        verbs.setdefault((need.resource.group, what, need.name), []).append(need.verb)
    return "\n".join(
        f'- apiGroups: ["{group}"]\n  resources: ["{what}"]\n'
        + (f'  resourceNames: ["{name}"]\n' if name else "")
        + f"  verbs: [{', '.join(said)}]"
        for (group, what, name), said in verbs.items()
    )
