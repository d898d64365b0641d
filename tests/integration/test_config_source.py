"""Captures of configurations: what is in the bundle, what never is, and what happens when things break."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import subprocess
import sys
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest
from tests.integration.test_config_repository import git, sound, torn

from phoenix_orch.kernel.errors import BadState, Retryable, Terminal
from phoenix_orch.recovery import sign_key
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.secret_values import opened, opened_bytes
from phoenix_orch.recovery.sources.config import REPOSITORY, SEALED_KEY, ConfigSource
from phoenix_orch.recovery.sources.config_files import FileItems
from phoenix_orch.recovery.sources.config_items import Document, File, Item, Tally

AT = datetime(2026, 11, 28, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
ONLINE, OFFLINE = (pyrage.x25519.Identity.generate() for _ in range(2))
TO = [str(one.to_public()) for one in (ONLINE, OFFLINE)]
CANARIES = ["canary-password-4711", "canary-token-0815", "canary-env-in-a-file"]


class Given:
    """Items that a test has put there."""

    def __init__(self, *items: Item) -> None:
        self.source: dict[str, Any] = {"namespaces": ["shop"]}
        self.items = list(items)
        self.fails = False

    @contextlib.contextmanager
    def read(self, tally: Tally):
        def found():
            for item in self.items:
                tally.kinds[item.kind] += 1
                yield item
            if self.fails:
                raise Retryable("the API server is away")

        yield found()


def config_map(name: str, **data: str) -> Document:
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "shop"},
        "data": data,
    }
    return Document(f"shop/ConfigMap/{name}.yaml", "ConfigMap", content)


def secret(
    name: str, owners: tuple[str, ...] = (), labels: dict[str, str] | None = None, **data: str
) -> Document:
    metadata = {"name": name, "namespace": "shop", **({"labels": labels} if labels else {})}
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    content = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": coded}
    return Document(f"shop/Secret/{name}.yaml", "Secret", content, sealed=True, owners=owners)


class Place:
    """A state directory, what is there to be backed up, and the last bundle that came of it."""

    def __init__(self, state: Path, *items: Item) -> None:
        self.state = state
        self.items = Given(*items)
        self.at = AT
        self.recipients = TO
        self.bundle: bytes | None = None

    @property
    def folder(self) -> Path:
        return self.state / REPOSITORY

    def source(self) -> ConfigSource:
        def last():
            return contextlib.nullcontext(io.BytesIO(self.bundle)) if self.bundle is not None else None

        return ConfigSource(self.state, self.items, self.recipients, last_bundle=last, now=lambda: self.at)

    def back_up(self):
        self.at += HOUR
        with self.source().capture() as capture:
            parts = []
            while piece := capture.read(4096):
                parts.append(piece)
            self.bundle = b"".join(parts)
            return capture.facts()

    def file(self, path: str) -> bytes:
        with ConfigRepository.open(self.folder) as repository:
            return repository.content(repository.files(repository.head().decode())[path])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(
        tmp_path / "state",
        config_map("web", **{"app.conf": "a=1\nb=2\n"}),
        secret("db", password=CANARIES[0], token=CANARIES[1]),
        File("default/File/applied.json.sops", f'{{"env": "{CANARIES[2]}"}}'.encode()),
    )


def test_a_backup_can_be_cloned_and_read_with_a_key_alone(place, tmp_path):
    facts = place.back_up()
    assert facts.content["objects"] == 3
    assert facts.content["kinds"] == {"ConfigMap": 1, "File": 1, "Secret": 1}
    assert facts.consistency_point == AT + HOUR
    (tmp_path / "config.bundle").write_bytes(place.bundle)
    git(tmp_path, "clone", "-q", "config.bundle", "clone")
    clone = tmp_path / "clone"
    sound(clone)
    assert git(clone, "rev-parse", "HEAD").strip() == facts.content["commit"]
    assert (clone / "shop/ConfigMap/web.yaml").read_text() == (
        "apiVersion: v1\ndata:\n  app.conf: |\n    a=1\n    b=2\n"
        "kind: ConfigMap\nmetadata:\n  name: web\n  namespace: shop\n"
    )
    (tmp_path / "keys.txt").write_text(f"{OFFLINE}\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("sops"), "--disable-version-check", "decrypt", "shop/Secret/db.yaml"],
        check=True,
        cwd=clone,
        env={"SOPS_AGE_KEY_FILE": str(tmp_path / "keys.txt"), "PATH": os.defpath, "HOME": str(tmp_path)},
        capture_output=True,
        timeout=60,
    )
    assert base64.b64encode(CANARIES[0].encode()) in done.stdout
    assert opened_bytes((clone / "default/File/applied.json.sops").read_bytes(), [OFFLINE]).decode() == (
        f'{{"env": "{CANARIES[2]}"}}'
    )


def test_an_unchanged_secret_keeps_its_bytes_and_a_changed_one_does_not(place):
    first, files = place.back_up(), {}
    for path in ("shop/Secret/db.yaml", "default/File/applied.json.sops", SEALED_KEY):
        files[path] = place.file(path)
    second = place.back_up()
    assert not second.content["changed"]
    assert second.content["commit"] == first.content["commit"]
    place.items.items[1] = secret("db", password=CANARIES[0], token="new")
    third = place.back_up()
    with ConfigRepository.open(place.folder) as repository:
        changed = [one.path for one in repository.changes(first.content["commit"], third.content["commit"])]
    assert changed == ["shop/Secret/db.digests", "shop/Secret/db.yaml"]
    old, new = (
        content.decode() for content in (files["shop/Secret/db.yaml"], place.file("shop/Secret/db.yaml"))
    )
    assert old != new
    assert opened(new, [ONLINE])["data"]["token"] == base64.b64encode(b"new").decode()
    assert place.file(SEALED_KEY) == files[SEALED_KEY]


def test_a_label_of_a_secret_is_a_change(place):
    place.back_up()
    place.items.items[1] = secret("db", labels={"a": "b"}, password=CANARIES[0], token=CANARIES[1])
    assert place.back_up().content["changed"]


def test_no_value_is_anywhere_in_the_state_or_in_the_bundle(place, tmp_path):
    """Every object of the history, every file of the state directory, every byte that leaves."""
    place.back_up()
    place.items.items[1] = secret("db", password="other", token=CANARIES[1])
    place.back_up()
    (tmp_path / "config.bundle").write_bytes(place.bundle)
    git(tmp_path, "clone", "-q", "--mirror", "config.bundle", "mirror")
    every = git(tmp_path / "mirror", "cat-file", "--batch-check", "--batch-all-objects").splitlines()
    assert len(every) > 10
    contents = [
        git(tmp_path / "mirror", "cat-file", line.split()[1], line.split()[0]).encode()
        for line in every
        if "tree" not in line
    ]
    for path in place.state.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            contents.append(content)
            with contextlib.suppress(zlib.error):
                contents.append(zlib.decompress(content))
    for canary in CANARIES:
        for form in (canary.encode(), base64.b64encode(canary.encode())):
            assert not any(form in content for content in contents)
    key = sign_key.where(place.state).read_bytes()
    assert not any(key in content for content in contents if content != key), "nor is the key of the signs"
    assert opened_bytes(place.file(SEALED_KEY), [OFFLINE]) == key


def test_a_lost_key_of_signs_costs_one_writing_and_nothing_else(place):
    place.back_up()
    sign_key.where(place.state).unlink()
    assert place.back_up().content["changed"]
    assert not place.back_up().content["changed"]
    assert sign_key.where(place.state).stat().st_mode & 0o777 == 0o600


def test_another_recipient_has_all_secrets_written_to_it(place):
    place.back_up()
    third = pyrage.x25519.Identity.generate()
    place.recipients = [*TO, str(third.to_public())]
    assert place.back_up().content["changed"]
    assert opened(place.file("shop/Secret/db.yaml"), [third])["metadata"]["name"] == "db"
    place.recipients = place.recipients[::-1]
    assert not place.back_up().content["changed"], "another order is no other set"


def test_what_is_deleted_goes_and_its_history_stays(place):
    first = place.back_up()
    place.items.items = place.items.items[:1]
    second = place.back_up()
    with ConfigRepository.open(place.folder) as repository:
        assert "shop/Secret/db.yaml" not in repository.files(second.content["commit"])
        assert "shop/Secret/db.yaml" in repository.files(first.content["commit"])


def test_owners_are_told_apart_from_the_objects(place):
    place.items.items[1] = secret("db", owners=("Certificate tls (cert-manager.io/v1)",), password="x")
    place.back_up()
    assert place.file("shop/owners.txt") == b"Secret/db belongs to Certificate tls (cert-manager.io/v1)\n"


def test_a_part_is_no_backup(place):
    before = place.back_up()
    place.items.items = place.items.items[:1]
    place.items.fails = True
    with pytest.raises(Retryable):
        place.back_up()
    with ConfigRepository.open(place.folder) as repository:
        assert repository.head().decode() == before.content["commit"]
    place.items.fails = False
    assert place.back_up().content["changed"]


def test_facts_are_known_at_the_end_and_not_before(place):
    with place.source().capture() as capture:
        with pytest.raises(BadState):
            capture.facts()
        capture.read()
        assert capture.read(10) == b""
        assert capture.facts().measures == ("objects",)


# -- what breaks -----------------------------------------------------------------------------------


def test_a_lost_repository_is_rebuilt_from_the_last_bundle(place):
    first = place.back_up()
    for path in sorted(place.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place.folder.rmdir()
    assert place.back_up().content["commit"] == first.content["commit"]


def test_a_torn_branch_is_rebuilt_and_what_was_torn_is_kept(place):
    first = place.back_up()
    torn(place.folder / "refs/heads/main", b"")
    assert place.back_up().content["commit"] == first.content["commit"]
    assert len(list(place.state.glob("config.git.torn-*"))) == 1
    sound(place.folder)


def test_an_old_object_that_is_torn_is_found_while_the_bundle_is_read_and_mended_by_the_next_backup(place):
    place.back_up()
    kept = place.bundle
    place.items.items[0] = config_map("web", other="1")
    place.back_up()
    with ConfigRepository.open(place.folder) as repository:
        first = list(repository.log())[1]
        sha = repository.files(first.commit)["shop/ConfigMap/web.yaml"].hex()
    torn(place.folder / "objects" / sha[:2] / sha[2:], b"")
    place.bundle = kept
    with pytest.raises(Corrupted, match="cannot be read"):
        place.back_up()
    place.bundle = kept
    facts = place.back_up()
    assert facts.content["changed"], "what came after the bundle is committed anew"
    sound(place.folder)


def test_a_torn_repository_without_any_backup_is_not_begun_anew(place):
    place.back_up()
    torn(place.folder / "refs/heads/main", b"")
    place.bundle = None
    with pytest.raises(Terminal, match="there is no backup of it"):
        place.back_up()
    assert place.folder.exists()


def test_a_bundle_that_cannot_be_opened_leaves_all_as_it_was(place):
    place.back_up()
    torn(place.folder / "refs/heads/main", b"")
    place.bundle = place.bundle[:-30]
    with pytest.raises(Corrupted):
        place.back_up()
    assert place.folder.exists()
    assert not list(place.state.glob("config.git.torn*"))


def test_files_of_a_machine_are_read_in_bounds_and_a_missing_one_is_told_of(tmp_path, monkeypatch):
    (tmp_path / "phoenix.yaml").write_text("a: 1\n")
    items = FileItems({"phoenix.yaml": tmp_path / "phoenix.yaml", "tokens.json": tmp_path / "tokens.json"})
    tally = Tally()
    with items.read(tally) as found:
        assert [item.path for item in found] == ["default/File/phoenix.yaml.sops"]
    assert tally.not_served == ["tokens.json"]
    monkeypatch.setattr("phoenix_orch.recovery.sources.config_files.LARGEST", 2)
    with pytest.raises(Terminal, match="more than 2 bytes"), items.read(Tally()) as found:
        list(found)
    with (
        pytest.raises(Terminal, match="cannot be backed up"),
        FileItems({"x": tmp_path}).read(Tally()) as found,
    ):
        list(found)
