"""`phoenix backup config` and `phoenix restore plan config --write`, on a data directory and on a bundle."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pyrage
import pytest
from ruamel.yaml import YAML
from tests.integration.test_config_source import CANARIES, ONLINE, Place, config_map, secret

from phoenix_orch.cli.main import run
from phoenix_orch.recovery.sources.config_items import File


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Three commits: begun, filled, and one secret and one line changed."""
    made = Place(
        tmp_path / "configurations",
        config_map("web", **{"app.conf": "a=1\nb=2\n"}),
        secret("db", password=CANARIES[0], token=CANARIES[1]),
        File("default/File/applied.json.sops", CANARIES[2].encode()),
    )
    made.back_up()
    made.items.items[0] = config_map("web", **{"app.conf": "a=1\nb=3\n"})
    made.items.items[1] = secret("db", password="changed", token=CANARIES[1])
    made.back_up()
    (tmp_path / "identity.txt").write_text(f"{ONLINE}\n")
    (tmp_path / "config.bundle").write_bytes(made.bundle or b"")
    return made


def phoenix(place: Place, capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert run([*words, "--data-dir", str(place.state.parent)]) == status
    said = capsys.readouterr()
    for canary in CANARIES:
        assert canary not in said.out + said.err
        assert base64.b64encode(canary.encode()).decode() not in said.out + said.err
    return said.out + said.err


def test_the_log_tells_what_changed_and_when_somebody_looked(place, capsys):
    text = phoenix(place, capsys, "backup", "config", "log")
    assert [line.split("  ")[-1] for line in text.splitlines()[1:4]] == ["Change 2", "Add 3", "Begin"]
    assert "looked at last: 2026-11-28T12:00:00Z" in text
    found = json.loads(phoenix(place, capsys, "backup", "config", "log", "--limit", "2", "-o", "json"))
    assert len(found["commits"]) == 2
    assert found["commits"][0]["message"].startswith("Change 2\n\nchange shop/ConfigMap/web.yaml")


def test_the_diff_has_lines_of_files_and_signs_of_secrets(place, capsys):
    text = phoenix(place, capsys, "backup", "config", "diff")
    assert "-    b=2\n+    b=3\n" in text
    lines = [line for line in text.splitlines() if line[:1] in "+-" and "password" in line]
    assert [line[:1] for line in lines] == ["-", "+"]
    assert all("<sealed " in line for line in lines)
    assert not [line for line in text.splitlines() if line[:1] in "+-" and "token" in line]
    assert "ENC[" not in text
    found = json.loads(phoenix(place, capsys, "backup", "config", "diff", "HEAD~2", "HEAD", "-o", "json"))
    by_path = {one["path"]: one for one in found["files"]}
    assert by_path["default/File/applied.json.sops"]["change"] == "added"
    found = json.loads(phoenix(place, capsys, "backup", "config", "diff", "HEAD~1", "-o", "json"))
    assert {one["path"]: one["values"] for one in found["files"]} == {
        "shop/ConfigMap/web.yaml": [],
        "shop/Secret/db.yaml": ["data.password"],
    }
    assert "nothing differs" in phoenix(place, capsys, "backup", "config", "diff", "HEAD", "HEAD")


def test_files_are_shown_at_a_commit_and_at_a_time(place, capsys):
    paths = phoenix(place, capsys, "backup", "config", "show", "shop")
    assert paths.split() == [
        "shop/ConfigMap/web.yaml",
        "shop/Secret/db.digests",
        "shop/Secret/db.yaml",
    ]
    assert "b=3" in phoenix(place, capsys, "backup", "config", "show", "shop/ConfigMap/web.yaml")
    for words in (
        ["--commit", "HEAD~1"],
        ["--as-of", "2026-11-28T11:30:00Z"],
        ["--as-of", "2026-11-28T11:30"],
    ):
        assert "b=2" in phoenix(place, capsys, "backup", "config", "show", "shop/ConfigMap/web.yaml", *words)
    assert "password: <sealed " in phoenix(place, capsys, "backup", "config", "show", "shop/Secret/db.yaml")
    assert "<sealed " in phoenix(place, capsys, "backup", "config", "show", "default/File/applied.json.sops")


def test_a_bundle_alone_is_enough(place, capsys, tmp_path):
    bundle = ("--bundle", str(tmp_path / "config.bundle"))
    assert "b=3" in phoenix(place, capsys, "backup", "config", "show", "shop/ConfigMap/web.yaml", *bundle)
    assert "Change 2" in phoenix(place, capsys, "backup", "config", "log", *bundle)


def test_what_kubectl_applies_is_written_for_its_owner_alone(place, capsys, tmp_path):
    path = tmp_path / "configs.yaml"
    path.write_text("old")
    path.chmod(0o644)
    words = ("restore", "plan", "config", "--identity", str(tmp_path / "identity.txt"), "--write", str(path))
    text = phoenix(place, capsys, *words, "--commit", "HEAD~1")
    assert f"kubectl apply -f {path}" in text
    assert path.stat().st_mode & 0o777 == 0o600
    found = list(YAML(typ="safe", pure=True).load_all(path.read_text()))
    assert [one["kind"] for one in found] == ["Secret", "ConfigMap"]
    assert base64.b64decode(found[0]["data"]["password"]).decode() == CANARIES[0]
    assert not list(tmp_path.glob(".configs*"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["backup", "config", "show", "none"], "the configuration has no 'none'"),
        (["backup", "config", "show", "--commit", "HEAD~9"], "no commit of the configuration"),
        (["backup", "config", "show", "--as-of", "2020-01-01"], "younger"),
        (["backup", "config", "show", "--as-of", "soon"], "no moment"),
        (["backup", "config", "show", "--as-of", "2026-11-28", "--commit", "HEAD"], "name one of them"),
        (["backup", "config", "log", "--bundle", "/nothing/there"], "there is no file /nothing/there"),
        (
            ["restore", "plan", "config", "--identity", "/nothing/there", "--write", "x"],
            "no file /nothing/there",
        ),
        (["restore", "run", "config", "--identity", "/nothing", "--confirm", "x"], "no file /nothing"),
    ],
)
def test_wrong_words_are_told(place, capsys, words, says):
    assert says in phoenix(place, capsys, *words, status=2)


def test_another_key_and_another_namespace_are_told(place, capsys, tmp_path):
    (tmp_path / "other.txt").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    words = ("restore", "plan", "config", "--write", str(tmp_path / "x.yaml"), "--identity")
    assert "none of the keys" in phoenix(place, capsys, *words, str(tmp_path / "other.txt"), status=1)
    assert "nothing of namespace cart" in phoenix(
        place, capsys, *words, str(tmp_path / "identity.txt"), "-n", "cart", status=2
    )
    assert not (tmp_path / "x.yaml").exists()


def test_a_configuration_of_one_machine_says_how_it_is_put_back(capsys, tmp_path):
    made = Place(tmp_path / "configurations", File("default/File/applied.json.sops", CANARIES[2].encode()))
    made.back_up()
    (tmp_path / "identity.txt").write_text(f"{ONLINE}\n")
    words = ("restore", "plan", "config", "--identity", str(tmp_path / "identity.txt"))
    said = phoenix(made, capsys, *words, status=2)
    assert "has no objects of a cluster" in said
    assert "sops decrypt" in said


def test_nothing_backed_up_is_told(tmp_path, capsys):
    assert run(["backup", "config", "log", "--data-dir", str(tmp_path)]) == 2
    assert "nothing was backed up here yet" in capsys.readouterr().err
