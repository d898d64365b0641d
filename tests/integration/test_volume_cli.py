"""The commands of the runbook for volumes, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from phoenix_orch.recovery.restore.files_verify import described_tree
from phoenix_orch.recovery.sources.archive import Archive
from phoenix_orch.recovery.sources.snapshot_plan import Taken

PHOENIX = Path(sys.executable).with_name("phoenix")
TAKEN = Taken(
    namespace="phoenix-orch",
    claim="data",
    snapshot="s1",
    content="c1",
    handle="h1",
    driver="d",
    snapshot_class="fast",
    restore_size=3 * 2**30,
    size=2**30,
    created="2026-11-28T12:00:00+00:00",
)


def phoenix(*words: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run((PHOENIX, *map(str, words)), input=given, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    return done


@pytest.fixture
def copied(tmp_path: Path) -> tuple[Path, bytes, str]:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "a").write_text("new")
    archive = Archive(folder)
    return folder, b"".join(archive), archive.tally.merkle_root


@pytest.mark.parametrize("piped", [False, True])
def test_a_folder_is_restored(tmp_path: Path, copied: tuple[Path, bytes, str], piped: bool) -> None:
    folder, content, root = copied
    target = tmp_path / "shop"
    target.mkdir()
    (target / "old").touch()
    file = tmp_path / "volume.tar"
    file.write_bytes(content)
    words = ("restore", "run", "volume", "--archive", "-" if piped else file, "--to", target)
    told = phoenix(*words, "--merkle-root", root, "--dry-run", given=content if piped else b"")
    assert (told.returncode, b"would be exchanged" in told.stdout) == (0, True), told.stderr
    assert [one.name for one in target.iterdir()] == ["old"]
    done = phoenix(*words, "--merkle-root", root, "-o", "json", given=content if piped else b"")
    assert done.returncode == 0, done.stderr
    assert list(described_tree(target)) == list(described_tree(folder))
    said = json.loads(done.stdout)
    assert said["names"] == 2
    assert (Path(said["old"]) / "old").exists()


def test_what_was_there_is_listed_and_deleted_when_its_time_is_over(
    tmp_path: Path, copied: tuple[Path, bytes, str]
) -> None:
    _, content, root = copied
    target, data_dir = tmp_path / "shop", ("--data-dir", tmp_path / "person")
    target.mkdir()
    words = ("restore", "run", "volume", "--archive", "-", "--to", target, "--merkle-root", root, *data_dir)
    olds = []
    for keep in ("7d", "0s"):
        done = phoenix(*words, "--keep", keep, "-o", "json", given=content)
        assert done.returncode == 0, done.stderr
        olds.append(Path(json.loads(done.stdout)["old"]))
    kept = ("restore", "kept", "--folder", target, *data_dir)
    said = phoenix(*kept).stdout.decode()
    (line,) = [one for one in said.splitlines() if one.startswith("delete 1: ")]
    confirm = line.split()[-2:]
    assert confirm[0] == "--confirm"
    assert "its time has not come" in said
    tried = json.loads(phoenix(*kept, *confirm, "--dry-run", "-o", "json").stdout)
    assert (len(tried["kept"]), tried["deleted"]) == (2, [])
    assert phoenix(*kept, "--confirm", "0000000000").returncode == 1
    assert all(old.exists() for old in olds)
    done = phoenix(*kept, *confirm, "-o", "json")
    assert json.loads(done.stdout)["deleted"] == [str(olds[1])]
    assert [old.exists() for old in olds] == [True, False]
    assert b"none of it may go" in phoenix(*kept).stdout
    refused = phoenix(*kept, "-n", "shops")
    assert refused.returncode == 2
    assert b"give one of them" in refused.stderr


def test_a_folder_that_is_not_this_backup_stays_away(tmp_path: Path, copied: tuple[Path, bytes, str]) -> None:
    _, content, _ = copied
    target = tmp_path / "shop"
    done = phoenix(
        "restore", "run", "volume", "--archive", "-", "--to", target, "--merkle-root", "0" * 64, given=content
    )
    assert done.returncode == 1
    assert b"not the one of this backup" in done.stderr
    assert not target.exists()
    done = phoenix(
        "restore", "run", "volume", "--archive", tmp_path / "none", "--to", target, "--merkle-root", "0"
    )
    assert (done.returncode, target.exists()) == (2, False)


def test_the_file_of_the_guide_is_written(tmp_path: Path) -> None:
    file = tmp_path / "volume-restore.yaml"
    words = ("restore", "plan", "volume", "--snapshot", "-", "--id", "20261128", "--write", file)
    done = phoenix(*words, "--folder", "phoenix", given=TAKEN.stored())
    assert done.returncode == 0, done.stderr
    kinds = [json.loads(part)["kind"] for part in file.read_text().split("\n---\n")]
    assert kinds == ["VolumeSnapshotContent", "VolumeSnapshot", "PersistentVolumeClaim", "Job"]
    assert f"kubectl apply -f {file}".encode() in done.stdout
    assert b"--old data --new data-restore-20261128" in done.stdout
    container = json.loads(file.read_text().split("\n---\n")[3])["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["/usr/local/bin/verify-state", "--data-dir", "/state/phoenix"]


def test_what_is_no_description_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "out.yaml"
    done = phoenix("restore", "plan", "volume", "--snapshot", "-", "--id", "1", "--write", file, given=b"{}")
    assert done.returncode == 1
    assert not file.exists()


def test_the_guides_file_holds_nothing_until_it_is_filled() -> None:
    text = Path(__file__, "../../../backup/volume-restore.yaml").resolve().read_text()
    assert all(line.startswith("#") for line in text.splitlines())
    assert "kubectl apply -f backup/volume-restore.yaml" in text
