"""Freezes and groups of a cluster: what the ConfigMap says, and what people write into it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest
from tests.unit.kube_fake import NAMESPACE
from tests.unit.test_cluster_starting import Shop

from phoenix_orch.kernel.config import ConfigError
from phoenix_orch.kernel.errors import BadState, Terminal
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.resources import CONFIG_MAPS, DEPLOYMENTS
from phoenix_orch.orchestrator.cluster.freezing import (
    NAME,
    WatchedRules,
    declared_in,
    flow_of,
    said_in,
)
from phoenix_orch.orchestrator.cluster.starting import start
from phoenix_orch.rollout.gate import UNKNOWN, Rules
from phoenix_orch.rollout.status import Obstacle

pytestmark = pytest.mark.anyio
RULES = """
freezes:
  - {name: peak, rollouts: ["sh*"], reason: stocktaking}
groups:
  - {name: all, rollouts: [shop], maxConcurrent: 1}
"""


def config_map(**data: str) -> dict[str, Any]:
    return {"metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data}


class Watch:
    """What a cache shows."""

    def __init__(self) -> None:
        self.is_synced = False
        self.found: dict[str, Any] | None = None

    def get(self, name: str, namespace: str = "") -> dict[str, Any] | None:
        return self.found if (name, namespace) == (NAME, NAMESPACE) else None


async def test_what_is_declared_stands_in_the_words_of_phoenix_yaml() -> None:
    found = declared_in(config_map(**{"rules.yaml": RULES}))
    assert [one.name for one in found.freezes] == ["peak"]
    assert [one.max_concurrent for one in found.groups] == [1]
    assert declared_in(None).freezes == ()
    with pytest.raises(ConfigError, match="freezes"):
        declared_in(config_map(**{"rules.yaml": "freezes: [{name: x, cron: nightly, duration: 1h}]"}))
    with pytest.raises(Terminal):
        said_in(config_map(**{"by-hand.json": "{"}))


async def test_nothing_begins_before_the_rules_are_known_or_while_they_cannot_be_read() -> None:
    watch = Watch()
    rules = WatchedRules(cast("Cache", watch), NAMESPACE)
    assert rules() is UNKNOWN
    watch.is_synced = True
    assert rules() == Rules()
    watch.found = config_map(**{"rules.yaml": RULES})
    known = rules()
    assert isinstance(known, Rules)
    assert [one.name for one in known.freezes] == ["peak"]
    assert rules() is known
    watch.found = config_map(**{"rules.yaml": "freezes: 7"})
    broken = rules()
    assert isinstance(broken, Obstacle)
    assert broken.reason == "FreezesUnreadable"
    watch.found = None
    assert rules() == Rules()


async def test_a_start_is_refused_in_a_freeze_and_goes_through_with_a_word_of_a_person() -> None:
    world = Shop()
    flow = flow_of(world.there)
    for name in ("first", "second"):  # the first one makes the ConfigMap, the second one changes it
        await flow.start_freeze(
            name,
            until=None,
            lasting=timedelta(hours=1),
            rollouts=(),
            reason="incident",
            under_way="continue",
            actor="ada",
            dry_run=False,
        )
    assert [view.freeze.name for view in await flow.freezes()] == ["first", "second"]
    with pytest.raises(BadState, match="frozen"):
        await world.start()
    assert ("create", "shop-canary") not in world.api.writes
    change = await start(
        world.there,
        "shop",
        {"": "shop:2"},
        reason="the fix",
        dry_run=False,
        even_if_unattainable=False,
        override_freeze=True,
    )
    assert world.api.see(DEPLOYMENTS, "shop-canary")
    said = said_in(world.api.see(CONFIG_MAPS, NAME))
    assert [(one.rollout, one.revision, one.reason) for one in said.overrides] == [
        ("shop", change.revision, "the fix")
    ]
    assert said.overrides[0].by
    await flow.end_freeze("first", reason="over", actor="ada", dry_run=False)
    assert [view.freeze.name for view in await flow.freezes()] == ["second"]
