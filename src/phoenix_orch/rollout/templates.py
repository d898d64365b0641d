"""Templates of the revisions that run or are about to: read once, so that they outlast an outage."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import ValidationError

from phoenix_orch.kernel.errors import NotFound, Terminal
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.workload.spec import Template


class Templates:
    """By rollout and revision, each with its version label."""

    def __init__(self, store: RolloutStore) -> None:
        self._store = store
        self._known: dict[str, dict[str, tuple[Template, str]]] = {}

    async def get(self, rollout: Rollout, revision: str) -> tuple[Template, str]:
        """Template and version. Raises NotFound, or Terminal for one that cannot be read."""
        known = self._known.setdefault(rollout.name, {})
        if revision not in known:
            kept = {one.revision: one for one in await self._store.revisions(rollout.name)}
            if revision not in kept:
                raise NotFound(
                    f"revision {revision} of {rollout.name} is not in the store",
                    remedy="apply the configuration that describes it again",
                )
            try:
                template = Template.model_validate(kept[revision].template)
            except ValidationError:  # its text would repeat the environment
                raise Terminal(
                    f"revision {revision} of {rollout.name} cannot be read from the store",
                    remedy="release it again under another version",
                ) from None
            known[revision] = (template, kept[revision].version)
        return known[revision]

    def known(self, rollout: str, revision: str) -> Template | None:
        """The template if it has been read; never asks the store."""
        found = self._known.get(rollout, {}).get(revision)
        return found[0] if found is not None else None

    def revisions(self, rollout: str) -> frozenset[str]:
        """Those that are known of a rollout."""
        return frozenset(self._known.get(rollout, {}))

    def keep(self, rollout: str, needed: Collection[str | None]) -> None:
        """Forget all but those needed."""
        known = self._known.pop(rollout, {})
        self._known[rollout] = {r: template for r, template in known.items() if r in needed}

    def forget(self, rollout: str) -> None:
        """The rollout was removed."""
        self._known.pop(rollout, None)
