"""Reading traffic objects from watched caches, so that a thousand routes at rest ask the API server nothing.

Only for looking: writes and aborts read what the API server has at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient, Page
from phoenix_orch.kube.index import Index, Words
from phoenix_orch.kube.resources import Key, Object, Resource, key_of, version_of
from phoenix_orch.traffic.kube_record import labels_of

MAX_AGE = 90.0
"""Seconds after which a cache that has not heard from the API server is believed no more; it hears of a
quiet one about once a minute."""


class Reads(Protocol):
    """Where objects are looked up: the API server, or what is known of it."""

    @property
    def manager(self) -> str: ...

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object: ...

    async def list(self, resource: Resource, namespace: str | None = None, *, labels: str = "") -> Page: ...


class CachedReads:
    """Answers from caches; from the API server while a cache is not there yet, is too old, or does not
    show what this process wrote itself."""

    def __init__(self, caches: Caches, client: KubeClient) -> None:
        self._caches = caches
        self._client = client
        self._written: dict[tuple[Resource, Key], str] = {}
        self._indexes: dict[tuple[Cache, Words], Index] = {}

    @property
    def manager(self) -> str:
        return self._client.manager

    def wrote(self, resource: Resource, found: Object) -> None:
        """It was written so by this process: nothing older is given any more."""
        self._written[resource, key_of(found)] = version_of(found)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """As `KubeClient.get`."""
        cache, key = self._cache(resource, namespace), Key(namespace or self._client.namespace, name)
        if not (_current(cache) and self._shows(cache, resource, key)):
            return await self._client.get(resource, name, namespace)
        found = cache.get(name, key.namespace)
        if found is None:
            raise NotFound(f"{resource.kind} {name} does not exist in namespace {key.namespace}")
        return {"kind": resource.kind, **found}

    async def having(
        self, resource: Resource, wanted: Iterable[str], words: Words, namespace: str | None = None
    ) -> Sequence[Object]:
        """Those of which `words` says something that is wanted; all where they have to be asked for."""
        cache = self._cache(resource, namespace)
        if not self._shows_all(cache, resource):
            return (await self._client.list(resource, namespace)).items
        if (cache, words) not in self._indexes:
            self._indexes[cache, words] = Index(cache, words)
        return self._indexes[cache, words].having(wanted)

    async def list(self, resource: Resource, namespace: str | None = None, *, labels: str = "") -> Page:
        """As `KubeClient.list`, for selectors of one `label=value`."""
        cache = self._cache(resource, namespace)
        if not self._shows_all(cache, resource):
            return await self._client.list(resource, namespace, labels=labels)
        name, _, value = labels.partition("=")
        items = [one for one in cache if not name or labels_of(one).get(name) == value]
        return Page(sorted(items, key=key_of), cache.version)

    def _cache(self, resource: Resource, namespace: str | None) -> Cache:
        return self._caches.of(resource, namespace)

    def _shows_all(self, cache: Cache, resource: Resource) -> bool:
        """It is current, and shows everything of this kind that was written by this process."""
        mine = [key for kind, key in self._written if kind == resource]
        return _current(cache) and all(self._shows(cache, resource, key) for key in mine)

    def _shows(self, cache: Cache, resource: Resource, key: Key) -> bool:
        """Versions of one kind are ordered as numbers (Kubernetes KEP-5504)."""
        written = self._written.get((resource, key))
        if written is None:
            return True
        if not (written.isdecimal() and cache.version.isdecimal() and int(cache.version) >= int(written)):
            return False
        del self._written[resource, key]
        return True


def _current(cache: Cache) -> bool:
    age = cache.age()
    return cache.is_synced and age is not None and age < MAX_AGE
