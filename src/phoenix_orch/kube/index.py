"""Objects of a cache by something they say, without looking at all of them each time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.resources import Key, Object

Words = Callable[[Object], Collection[str]]
"""What an object is to be found by. Pure."""


class Index:
    """Follows its cache for as long as that lives."""

    def __init__(self, cache: Cache, words: Words) -> None:
        self._cache = cache
        self._words = words
        self._said: dict[Key, frozenset[str]] = {}
        self._keys: dict[str, set[Key]] = {}
        cache.subscribe(self._look)

    def _look(self, key: Key) -> None:
        for word in self._said.pop(key, ()):
            self._keys[word].discard(key)
            if not self._keys[word]:
                del self._keys[word]
        if (found := self._cache.get(key.name, key.namespace)) is not None:
            self._said[key] = frozenset(self._words(found))
            for word in self._said[key]:
                self._keys.setdefault(word, set()).add(key)

    def __getitem__(self, word: str) -> list[Object]:
        """In the order of their names."""
        return self.having([word])

    def having(self, words: Iterable[str]) -> list[Object]:
        """Those that say one of these words, in the order of their names."""
        keys = {key for word in words for key in self._keys.get(word, ())}
        found = (self._cache.get(key.name, key.namespace) for key in sorted(keys))
        return [one for one in found if one is not None]
