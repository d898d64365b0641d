"""Freezes and groups of a cluster: one ConfigMap in Phoenix's namespace (ADR 0046).

Under `rules.yaml` stand the windows and groups that people or git declare, in the words of phoenix.yaml.
Under `by-hand.json` stands what `phoenix freeze` writes. Whoever may write the ConfigMap may begin, end and
override.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import ValidationError

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import Conflict, Invalid, NotFound, Retryable, Terminal
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import AlreadyExists, Forbidden
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import CONFIG_MAPS, Object
from phoenix_orch.orchestrator.cluster import looking
from phoenix_orch.orchestrator.cluster.reach import Reach
from phoenix_orch.orchestrator.flow import Declared, Flow, Records, rules_of
from phoenix_orch.rollout.freezes_by_hand import Said
from phoenix_orch.rollout.gate import UNKNOWN, Rules
from phoenix_orch.rollout.rules_file import RulesFile
from phoenix_orch.rollout.status import Event, Obstacle, Release, Revision, Rollout

NAME = "phoenix-freezes"
DECLARED, BY_HAND = "rules.yaml", "by-hand.json"
TRIES = 5
"""Of a conditional write."""


def declared_in(found: Object | None) -> Declared:
    """Raises ConfigError for what cannot be read."""
    from phoenix_orch.kernel.config import parsed, validate  # noqa: PLC0415 - slow, and an abort needs none

    text = _data(found).get(DECLARED, "")
    if not text.strip():
        return Declared()
    rules = validate(parsed(f"ConfigMap {NAME}, {DECLARED}", text), RulesFile)
    return Declared(rules.freezes, rules.groups)


def said_in(found: Object | None) -> Said:
    """Raises Terminal for what cannot be read."""
    text = _data(found).get(BY_HAND, "")
    try:
        return Said.model_validate_json(text) if text.strip() else Said()
    except ValidationError as error:
        raise Terminal(
            f"{BY_HAND} of ConfigMap {NAME} is not what `phoenix freeze` writes",
            remedy=f"remove that key, and begin the freezes again: kubectl edit configmap {NAME}",
        ) from error


def _data(found: Object | None) -> dict[str, str]:
    return (found or {}).get("data") or {}


class WatchedRules:
    """The rules for the controller, from a watch: nobody is asked for them in a pass."""

    def __init__(self, cache: Cache, namespace: str) -> None:
        self._cache = cache
        self._in = namespace
        self._seen: Object | None = None
        self._rules: Rules | Obstacle = Rules()

    def __call__(self) -> Rules | Obstacle:
        if not self._cache.is_synced:
            return UNKNOWN
        found = self._cache.get(NAME, self._in)
        if found is not self._seen:
            self._rules, self._seen = _rules(found), found
        return self._rules


def _rules(found: Object | None) -> Rules | Obstacle:
    """What cannot be read lets nothing begin: it may have been a freeze."""
    try:
        return Rules() if found is None else rules_of(declared_in(found), said_in(found))
    except (Invalid, Terminal) as error:
        first = error.message.splitlines()[0]
        return Obstacle(reason="FreezesUnreadable", message=f"ConfigMap {NAME} cannot be read: {first}")


class ConfigMapBook:
    """What people said, in the ConfigMap; written if nobody else has written since."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def found(self) -> Object | None:
        try:
            return await self._client.get(CONFIG_MAPS, NAME)
        except NotFound:
            return None

    async def read(self) -> Said:
        return said_in(await self.found())

    async def change(self, how: Callable[[Said], Said]) -> None:
        for _ in range(TRIES):
            found = await self.found()
            data = {BY_HAND: how(said_in(found)).model_dump_json(by_alias=True)}
            try:
                if found is None:
                    await self._client.create(CONFIG_MAPS, {"metadata": {"name": NAME}, "data": data})
                else:
                    await self._client.patch(CONFIG_MAPS, NAME, merge_patch_of(found, {"data": data}))
            except (AlreadyExists, Conflict):
                await asyncio.sleep(0)
            else:
                return
        raise Retryable(f"ConfigMap {NAME} is being written by others all the time", remedy="say it again")


def flow_of(there: Reach) -> Flow:
    """Freezes, groups and numbers of one namespace, with the rights of whoever asks."""
    book = ConfigMapBook(there.client)

    async def declared() -> Declared:
        return declared_in(await book.found())

    async def rollouts() -> list[Rollout]:
        return [found.one.rollout for found in await there.rollouts()]

    async def history(name: str, limit: int) -> list[Release]:
        return await looking.history(there, name, limit=limit)

    async def revisions(name: str) -> list[Revision]:
        try:
            return await looking.revisions(there, name)
        except (NotFound, Forbidden):  # without them a lead time begins with its release
            return []

    async def tell(rollout: Rollout, reason: str, message: str, actor: str) -> None:
        """Into the log, where one is named: the orchestrator alone writes the object."""
        if there.log is None:
            return
        event = Event(
            at=datetime.now(UTC), reason=reason, message=message, revision=rollout.target, actor=actor
        )
        with contextlib.suppress(NotFound, Retryable):  # who, when and why is in the ConfigMap as well
            await there.log.append_events(rollout.name, [event])

    return Flow(book, declared, Records(rollouts, history, revisions, tell), RealClock())


async def through_freeze(
    there: Reach, rollout: Rollout, revision: str, *, reason: str, actor: str, override: bool, dry_run: bool
) -> None:
    """Raises BadState in a freeze that nobody sets aside.

    Who may not read the ConfigMap is told nothing here: the release waits all the same.
    """
    flow = flow_of(there)
    if override:
        await flow.override(rollout, revision, reason=reason, actor=actor, dry_run=dry_run)
        return
    try:
        await flow.refuse_frozen(rollout.name, f"phoenix rollout start {rollout.name} --kubernetes ...")
    except Forbidden:
        return
