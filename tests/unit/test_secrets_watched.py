"""Which Secrets are watched, and how many are listed at a time."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import PAGE, KubeClient, Selection
from phoenix_orch.kube.resources import SECRETS, Resource
from phoenix_orch.workload.kubernetes_objects import SECRETS_PAGE, Watches


class Noted:
    """Caches that list nothing."""

    def __init__(self) -> None:
        self.asked: dict[Resource, dict[str, Any]] = {}

    def of(self, resource: Resource, namespace: str | None = None, **how: Any) -> Cache:
        self.asked[resource] = how
        return Cache(Selection(resource, namespace or "shops", fields=how["fields"]))


def test_releases_of_helm_are_not_read_and_pages_of_secrets_fit_into_memory() -> None:
    noted = Noted()
    watches = Watches.of(cast("Caches", noted))
    assert watches.secrets.selection.parameters() == {"fieldSelector": "type!=helm.sh/release.v1"}
    assert noted.asked[SECRETS]["page"] * 1.5 <= 512 / 4, "MB of the largest Secrets, of the limit in Mi"
    others = [how for resource, how in noted.asked.items() if resource != SECRETS]
    assert all((how["fields"], how["page"]) == ("", PAGE) for how in others)


class Pages:
    """A client whose lists note their size and end at once."""

    namespace = "shops"

    def __init__(self) -> None:
        self.limits: list[int] = []

    def selection(self, resource: Resource, namespace: str | None, *, labels: str, fields: str) -> Selection:
        return Selection(resource, namespace or self.namespace, labels, fields)

    def pages(self, _selection: Selection, *, limit: int) -> Any:
        self.limits.append(limit)
        raise RuntimeError


async def test_what_is_asked_for_is_listed_in_pages_of_that_size() -> None:
    client = Pages()
    async with Caches(cast("KubeClient", client)) as caches:
        caches.of(SECRETS, page=SECRETS_PAGE)
        (reflector,) = caches.reflectors()
        with contextlib.suppress(RuntimeError):
            await reflector._list()
    assert client.limits[0] == SECRETS_PAGE
