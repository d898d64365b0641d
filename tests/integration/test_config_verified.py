"""A copy of configurations is examined as a history, object by object."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.integration.test_config_source import CANARIES, Place, config_map, secret

from phoenix_orch.recovery.config_verify import ConfigStructure
from phoenix_orch.recovery.errors import Corrupted


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "state", config_map("web", a="1"), secret("db", password=CANARIES[0]))


def examined(content: dict[str, Any], bundle: bytes) -> str:
    manifest: Any = SimpleNamespace(content=content)
    with ConfigStructure().examine(manifest) as examination:
        for place in range(0, len(bundle), 1000):
            assert examination.write(bundle[place : place + 1000])
        return examination.finish()


def test_a_whole_copy_is_told_of(place):
    place.back_up()
    place.items.items[0] = config_map("web", a="2")
    facts = place.back_up()
    assert examined(facts.content, place.bundle) == (
        "3 commits, every object by its hash; 2 configurations in the newest"
    )
    assert set(ConfigStructure().tools()) == {"dulwich"}


def test_what_is_cut_or_torn_or_another_one_is_refused(place):
    before = place.back_up()
    place.items.items = place.items.items[:1]
    bundle = place.bundle
    after = place.back_up()
    for content, found in (
        (before.content, bundle[:-1]),
        (before.content, bundle[:200] + bytes([bundle[200] ^ 1]) + bundle[201:]),
        (before.content, b""),
        (before.content, place.bundle),
        (after.content, bundle),
        ({**before.content, "objects": 7}, bundle),
    ):
        with pytest.raises(Corrupted):
            examined(content, found)
