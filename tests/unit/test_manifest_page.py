"""The reference of the manifest tells every field that a manifest has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.backup_stage import stage

from phoenix_orch.kernel.model_shape import documents, models
from phoenix_orch.recovery.manifest import Acknowledgement, Manifest, Pin, Tombstone, Verification
from phoenix_orch.recovery.redis_facts import RedisFacts
from phoenix_orch.recovery.sources.redis import _content
from phoenix_orch.recovery.sources.redis_shards import Shard
from phoenix_orch.schema import manifest_page

OPEN = {"engine", "source", "content", "replication", "signature"}
PAGE = manifest_page.page("")


@pytest.mark.parametrize("root", [Manifest, Verification, Pin, Acknowledgement, Tombstone])
def test_every_field_is_told_in_words(root: Any) -> None:
    for model in models(root):
        untold = set(model.model_fields) - set(documents(model))
        assert not untold, model
        assert f"## {manifest_page.TITLES[model.__name__]}\n" in PAGE


def keys(content: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in content.items():
        if path in OPEN:
            yield f"{path}.{key}"
            continue
        yield key
        if isinstance(value, dict):
            yield from keys(value, key)


def test_every_key_of_a_manifest_that_is_stored_is_on_the_page(tmp_path: Path) -> None:
    at = stage(tmp_path)
    at.publish()
    at.publish()
    found = [json.loads(path.read_bytes()) for path in sorted(tmp_path.rglob("manifest.json"))]
    told = set(re.findall(r"`([A-Za-z0-9.]+)`", PAGE))
    for content in found:
        assert content["previous"] if content is found[-1] else True
        missing = set(keys(content)) - told - {"engine.version", "content.bytes"}
        assert not missing


def test_what_is_counted_of_a_redis_is_on_the_page() -> None:
    facts = RedisFacts("redis", "8.0", "standalone", "master", "r")
    for key in _content(facts, 1, Shard(((0, 5),), ("h", 1))):
        assert f"`content.{key}`" in PAGE
