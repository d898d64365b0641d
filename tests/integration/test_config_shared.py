"""Configuration backed up by replicas in turn: one history, and nothing written anew at a change of hands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.backup_stage import IDENTITY, OFFLINE

from phoenix_orch.kernel.errors import Invalid, Terminal
from phoenix_orch.orchestrator.backup_home import Home
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.cluster.file import load
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.manifest import Level, Trigger, TriggerKind
from phoenix_orch.recovery.publish import Published
from phoenix_orch.recovery.signing import signing_key
from phoenix_orch.recovery.sources.config_items import Document, Item, Tally
from phoenix_orch.recovery.spec import BackupSpec

MANUAL = Trigger(kind=TriggerKind.MANUAL, actor="test")


class Objects:
    """A namespace with a Secret and ConfigMaps."""

    def __init__(self) -> None:
        self.source: dict[str, Any] = {"namespaces": ["shop"]}
        self.maps: dict[str, str] = {}

    @contextlib.contextmanager
    def read(self, tally: Tally) -> Iterator[Iterator[Item]]:
        yield self._items(tally)

    def _items(self, tally: Tally) -> Iterator[Item]:
        tally.kinds["Secret"] += 1
        yield self._one("Secret", "till", {"password": "aHVzaA=="})
        for name, value in sorted(self.maps.items()):
            tally.kinds["ConfigMap"] += 1
            yield self._one("ConfigMap", name, {"value": value})

    def _one(self, kind: str, name: str, data: dict[str, str]) -> Document:
        body = {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "shop"},
            "data": data,
        }
        return Document(f"shop/{kind}/{name}.yaml", kind, body, sealed=kind == "Secret")


class Replicas:
    """Of one cluster; nothing of theirs is shared but the storage and the keys."""

    def __init__(self, root: Path) -> None:
        self.root, self.objects = root, Objects()
        signing_key(root / "signing.pem")
        (root / "online.key").write_text(f"{IDENTITY.key}\n")
        self.spec = BackupSpec.model_validate(
            {
                "storage": {"folder": "bucket"},
                "identityFile": "online.key",
                "recipients": [
                    {"name": "here", "key": IDENTITY.public},
                    {"name": "safe", "key": OFFLINE.public, "offline": True},
                ],
            }
        ).placed(root)
        self.home = Home("test", "shop", root / "signing.pem", self.objects)

    def backups(self, name: str) -> Backups:
        return Backups(self.spec, Layout(self.root / name), home=self.home)

    def run(self, name: str) -> Published:
        made = self.backups(name).run("config", MANUAL)
        assert made is not None
        return made


def test_whoever_is_next_goes_on_with_what_was_published(tmp_path: Path) -> None:
    world = Replicas(tmp_path)
    for number, name in enumerate(("one", "two", "one", "three", "two")):
        world.objects.maps[f"map-{number}"] = name
        made = world.run(name)
        # a commit for each, besides the beginning: nobody has begun anew or gone another way
        backups = world.backups(name)
        look = backups.verify(backups.one(made.manifest.id))
        assert (look.passed, look.level) == (True, Level.STRUCTURE)
        assert look.detail.startswith(f"{number + 2} commits"), look.detail
    assert {view.scope.path for view in world.backups("one").views()} == {
        world.home.scope("config").path,
    }


def test_a_change_of_hands_alone_changes_nothing(tmp_path: Path) -> None:
    world = Replicas(tmp_path)
    first = world.run("one").manifest.content["commit"]
    assert world.run("two").manifest.content["commit"] == first
    assert world.run("one").manifest.content["commit"] == first


def test_a_signing_key_that_is_not_mounted_is_not_made(tmp_path: Path) -> None:
    world = Replicas(tmp_path)
    (tmp_path / "signing.pem").unlink()
    with pytest.raises(Terminal, match="key that signs backups"):
        world.backups("one")
    assert not (tmp_path / "signing.pem").exists()


FILE = """\
backup:
  cluster: test
  signingKeyFile: signing.pem
  recipients:
    - {name: here, key: HERE}
    - {name: safe, key: SAFE, offline: true}
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("  identityFile: k\n", "a bucket, or a folder"),
        ("  storage: {folder: b}\n", "identityFile is needed"),
        ("  identityFile: k\n  storage: {folder: b}\n  volumes: {a: {path: a}}\n", "folders of one machine"),
        (
            "  identityFile: k\n  storage: {folder: b}\n  configuration: {kinds: [Pod]}\n",
            "Pod is backed up nowhere",
        ),
    ],
)
def test_what_replicas_cannot_do_is_refused(tmp_path: Path, more: str, said: str) -> None:
    file = tmp_path / "phoenix.yaml"
    text = FILE.replace("HERE", IDENTITY.public).replace("SAFE", OFFLINE.public)
    file.write_text(text + more)
    with pytest.raises(Invalid, match=said):
        load(file)
    file.write_text(f"{text}  identityFile: k\n  storage: {{s3: {{bucket: box}}}}\n")
    found = load(file).backup
    assert found is not None
    assert (found.signing_key_file, found.identity_file) == (
        str(tmp_path / "signing.pem"),
        str(tmp_path / "k"),
    )
