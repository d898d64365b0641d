"""The repository of configurations: Git itself reads it, clones its bundle, and finds nothing wrong."""

from __future__ import annotations

import io
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.debian import program

from phoenix_orch.kernel.errors import BadState, Conflict, NotFound
from phoenix_orch.recovery import config_repository
from phoenix_orch.recovery.config_draft import AUTHOR, begin, drafting
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.errors import Corrupted

AT = datetime(2026, 11, 28, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def git(folder: Path, *words: str) -> str:
    env = {"PATH": os.defpath, "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(
        [program("git", "git"), *words],
        check=False,
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config.git"


@pytest.fixture
def repository(folder: Path):
    with begin(folder, AT) as made:
        yield made


def commit(repository, files, at=AT, message=""):
    with drafting(repository) as draft:
        for path, text in files.items():
            draft.put(path, text.encode())
        return draft.commit(at, message)


def sound(folder: Path) -> None:
    out = git(folder, "fsck", "--strict", "--full", "--no-dangling")
    assert out == ""


def test_git_reads_what_was_committed(repository, folder):
    done = commit(repository, {"shop/ConfigMap/web.yaml": "a: 1\n", "README.md": "x"}, AT + HOUR)
    assert (done.added, done.changed, done.files) == (("shop/ConfigMap/web.yaml",), ("README.md",), 2)
    sound(folder)
    assert git(folder, "show", "main:shop/ConfigMap/web.yaml") == "a: 1\n"
    assert git(folder, "log", "-1", "--format=%H %an <%ae> %aI") == (
        f"{done.commit} {AUTHOR.decode()} 2026-11-28T11:00:00+00:00\n"
    )
    assert git(folder, "rev-parse", "main^{tree}").strip() == done.tree


def test_no_change_is_no_commit_and_a_heartbeat_all_the_same(repository):
    first = commit(repository, {"a": "1"}, AT + HOUR)
    second = commit(repository, {"a": "1"}, AT + 2 * HOUR)
    assert not second.new
    assert second.commit == first.commit
    beat = repository.heartbeat()
    assert beat is not None
    assert (beat.at, beat.commit, beat.files) == (AT + 2 * HOUR, first.commit, 1)
    assert len(list(repository.log())) == 2


def test_what_is_not_put_is_removed_and_what_is_kept_stays(repository):
    commit(repository, {"s/A/a.yaml": "1", "s/A/b.yaml": "2"})
    with drafting(repository) as draft:
        assert draft.read("s/A/a.yaml") == b"1"
        assert draft.read("s/A/none.yaml") is None
        draft.keep("s/A/a.yaml")
        done = draft.commit(AT)
    assert done.removed == ("s/A/b.yaml",)
    assert set(repository.files(done.commit)) == {"s/A/a.yaml"}


def test_a_file_becomes_a_folder_and_back(repository):
    one = commit(repository, {"a": "1"})
    two = commit(repository, {"a/b": "1"})
    three = commit(repository, {"a": "1"})
    assert [
        (each.path, bool(each.old), bool(each.new)) for each in repository.changes(one.commit, two.commit)
    ] == [
        ("a", True, False),
        ("a/b", False, True),
    ]
    assert repository.changes(one.commit, three.commit) == []


def test_history_is_found_by_id_by_place_and_by_time(repository):
    ids = [commit(repository, {"a": str(number)}, AT + number * HOUR).commit for number in range(1, 4)]
    assert repository.resolve("HEAD").commit == ids[2]
    assert repository.resolve("HEAD~1").commit == ids[1]
    assert repository.resolve(ids[0][:8]).commit == ids[0]
    assert repository.as_of(AT + 2.5 * HOUR).commit == ids[1]
    for wrong in ("HEAD~9", "abc", "ffffffff", "HEAD~x"):
        with pytest.raises(NotFound, match="no commit of the configuration"):
            repository.resolve(wrong)
    with pytest.raises(NotFound, match="younger"):
        repository.as_of(AT - HOUR)


def test_git_clones_the_bundle_and_it_is_made_of_differences(repository, folder, tmp_path):
    lines = [f"key{number}: value{number * 7919}\n" for number in range(400)]
    for number in range(70):  # more than may stand in a row
        lines[number] = f"key{number}: changed\n"
        commit(
            repository,
            {f"s/ConfigMap/{name}.yaml": "".join(lines) + name for name in "ab"},
            AT + number * HOUR,
        )
    stream, whole = repository.bundle(), io.BytesIO()
    while piece := stream.read(1000):
        assert len(piece) <= 1000
        whole.write(piece)
    path = tmp_path / "config.bundle"
    path.write_bytes(whole.getvalue())
    assert len(whole.getvalue()) < 120_000, "140 versions of 8 kB"
    git(tmp_path, "clone", "-q", str(path), "clone")
    assert git(tmp_path / "clone", "rev-parse", "HEAD").strip() == repository.head().decode()
    assert (tmp_path / "clone/s/ConfigMap/a.yaml").read_text() == "".join(lines) + "a"
    sound(tmp_path / "clone")
    assert git(tmp_path / "clone", "rev-list", "--count", "HEAD").strip() == "71"
    git(tmp_path / "clone", "bundle", "verify", str(path))


def test_a_bundle_makes_the_same_repository_again(repository, folder, tmp_path):
    commit(repository, {"a/b": "1"}, AT)
    last = commit(repository, {"a/b": "2"}, AT + HOUR)
    content = repository.bundle().read()
    with ConfigRepository.rebuild(tmp_path / "again.git", io.BytesIO(content).read, ".torn") as again:
        assert again.head() == repository.head()
        assert again.files(last.commit) == repository.files(last.commit)
        assert commit(again, {"a/b": "3"}).changed == ("a/b",)
    sound(tmp_path / "again.git")


@pytest.mark.parametrize("cut", [0, 10, 100, -1, -25])
def test_a_bundle_that_is_not_whole_changes_nothing(repository, folder, cut):
    done = commit(repository, {"a/b": "1" * 500})
    content = repository.bundle().read()[:cut]
    with pytest.raises(Corrupted, match="bundle"):
        ConfigRepository.rebuild(folder, io.BytesIO(content).read, ".torn")
    with ConfigRepository.open(folder) as still:
        assert still.head().decode() == done.commit
    assert not list(folder.parent.glob("*.new"))


def test_any_flipped_byte_of_a_bundle_is_refused(repository, tmp_path):
    commit(repository, {"a/b": "some text\n" * 20})
    content = repository.bundle().read()
    begin = content.index(b"\n\n") + 2
    for place in range(begin, len(content), 7):
        torn = bytearray(content)
        torn[place] ^= 0x20
        with pytest.raises(Corrupted):
            ConfigRepository.rebuild(tmp_path / "again.git", io.BytesIO(bytes(torn)).read, ".torn")
    assert not (tmp_path / "again.git").exists()


def test_many_objects_are_put_together_and_stay_readable(repository, folder, monkeypatch):
    monkeypatch.setattr(config_repository, "MANY_LOOSE", 30)
    for number in range(12):
        last = commit(
            repository, {f"s/A/{name}.yaml": f"{name}{number % 3}{name == 'a' and number}" for name in "abcd"}
        )
    assert len(list((folder / "objects" / "pack").glob("*.pack"))) == 1
    assert len(list(repository.log())) == 13
    sound(folder)
    with ConfigRepository.open(folder) as again:
        assert len(again.files(last.commit)) == 4
        assert len(again.bundle().read()) > 100


# -- what may break --------------------------------------------------------------------------------


def loose(folder: Path) -> list[Path]:
    return [path for path in (folder / "objects").glob("??/*") if path.is_file()]


def torn(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_whatever_object_is_torn_no_bundle_comes_of_it(repository, folder, damage):
    commit(repository, {"s/A/a.yaml": "1", "s/A/b.yaml": "2"})
    for path in loose(folder):
        whole = path.read_bytes()
        path.chmod(0o600)
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        with pytest.raises(Corrupted), ConfigRepository.open(folder) as opened:
            opened.bundle().read()
        path.write_bytes(whole)
    with ConfigRepository.open(folder) as opened:
        assert opened.bundle().read()


def test_an_object_that_is_another_one_is_found(repository, folder):
    commit(repository, {"a": "1", "b": "2"})
    one, other = (
        folder / "objects" / sha.hex()[:2] / sha.hex()[2:]
        for sha in repository.files(repository.head().decode()).values()
    )
    torn(one, other.read_bytes())
    with ConfigRepository.open(folder) as opened, pytest.raises(Corrupted, match="not what was written"):
        opened.bundle().read()


@pytest.mark.parametrize("content", [b"", b"\0" * 41, b"f" * 40 + b"\n"])
def test_a_branch_that_names_nothing_is_torn_and_not_begun_anew(repository, folder, content):
    commit(repository, {"a": "1"})
    torn(folder / "refs/heads/main", content)
    with pytest.raises(Corrupted):
        ConfigRepository.open(folder)
    (folder / "refs/heads/main").unlink()
    with pytest.raises(Corrupted, match="which commit is the newest"):
        ConfigRepository.open(folder)


def test_what_is_torn_is_kept_beside_what_is_rebuilt(repository, folder):
    done = commit(repository, {"a": "1"})
    content = repository.bundle().read()
    for number in range(2):
        torn(folder / "refs/heads/main", b"")
        with ConfigRepository.rebuild(folder, io.BytesIO(content).read, ".torn") as rebuilt:
            assert rebuilt.head().decode() == done.commit
        assert len(list(folder.parent.glob("config.git.torn*"))) == number + 1


def test_there_is_none_before_it_is_begun_and_it_is_begun_once(folder):
    with pytest.raises(NotFound):
        ConfigRepository.open(folder)
    begin(folder, AT).close()
    with pytest.raises(Conflict, match="exists already"):
        begin(folder, AT)


def test_two_do_not_write_at_once(repository):
    with drafting(repository), pytest.raises(BadState, match="another process"), drafting(repository):
        pass
    with drafting(repository) as draft:
        draft.put("a", b"1")
        assert draft.commit(AT).new


def test_locks_of_a_writer_that_died_hold_nobody_up(repository, folder):
    for left in ("refs/heads/main.lock", "HEAD.lock", "objects/tmpx.lock"):
        (folder / left).write_text("")
    assert commit(repository, {"a": "1"}).new
    assert not list(folder.rglob("*.lock"))


def test_it_is_for_its_owner_alone(repository, folder):
    assert folder.stat().st_mode & 0o077 == 0
