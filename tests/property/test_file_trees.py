"""Any folder comes back from its archive as it was; any change of the archive is noticed."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.file_manifest import Entry, Kind, line, parsed
from phoenix_orch.recovery.files_examine import FilesExamination, FilesStructure, examined
from phoenix_orch.recovery.merkle import Merkle
from phoenix_orch.recovery.restore.files_restore import restore
from phoenix_orch.recovery.restore.files_verify import described_tree
from phoenix_orch.recovery.sources.archive import Archive
from phoenix_orch.recovery.sources.tar_headers import nanoseconds, seconds

NOW = datetime(2026, 11, 28, tzinfo=UTC)
names = (
    st.binary(min_size=1, max_size=40)
    .map(os.fsdecode)
    .filter(lambda name: not set(name) & set("/\0") and name not in {".", ".."} and name[:9] != ".phoenix-")
)
times = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
modes = st.integers(0, 0o7777)
files = st.tuples(
    st.just("file"),
    st.binary(max_size=3000),
    modes,
    times,
    st.dictionaries(st.from_regex(r"user\.[a-z]{1,9}", fullmatch=True), st.binary(max_size=30), max_size=2),
)
sparse = st.tuples(
    st.just("sparse"),
    st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=9)), max_size=3),
    modes,
    times,
)
links = st.tuples(st.just("link"), st.text("abc./é", min_size=1, max_size=150))
further = st.tuples(st.just("same"), st.integers(0, 9))
trees = st.recursive(
    st.dictionaries(names, st.one_of(files, sparse, links, further), max_size=4),
    lambda below: st.dictionaries(
        names, st.one_of(files, links, further, st.tuples(st.just("folder"), below, modes, times)), max_size=4
    ),
    max_leaves=12,
)


def build(folder: Path, tree: dict[str, Any], made: list[Path]) -> None:
    for name, (kind, *rest) in tree.items():
        path = folder / name
        if kind == "file":
            path.write_bytes(rest[0])
            for key, value in rest[3].items():
                with contextlib.suppress(OSError):  # a file system without
                    os.setxattr(path, key, value)
            made.append(path)
        elif kind == "sparse":
            with path.open("wb") as file:
                for block, content in rest[0]:
                    file.seek(block * 65536)
                    file.write(content)
                file.truncate(41 * 65536)
            made.append(path)
        elif kind == "link":
            path.symlink_to(rest[0])
        elif kind == "same":
            if made:
                os.link(made[rest[0] % len(made)], path)
            continue
        else:
            path.mkdir()
            build(path, rest[0], made)
        if kind != "link":
            path.chmod(rest[1])
            os.utime(path, ns=(rest[2], rest[2]))


@settings(max_examples=60, deadline=None)
@given(tree=trees)
def test_a_folder_comes_back_as_it_was(tree: dict[str, Any]) -> None:
    with a_folder(tree) as folder:
        before = list(described_tree(folder))
        archive, content = archived(folder)
        target = folder.with_name("back")
        done = restore(
            lambda: contextlib.closing(io.BytesIO(content)), target, archive.tally.merkle_root, now=NOW
        )
        assert list(described_tree(target)) == before
        assert done.names == archive.tally.entries == len(before)
        assert done.old is None


@settings(max_examples=15, deadline=None)
@given(tree=trees)
def test_tar_itself_unpacks_it(tree: dict[str, Any]) -> None:
    """GNU tar, without Phoenix."""
    with a_folder(tree) as folder:
        before = list(described_tree(folder))
        _, content = archived(folder)
        target = folder.with_name("back")
        target.mkdir()
        words = ("tar", "-x", "--warning=none", "--xattrs", "--xattrs-include=*", "-p", "files")
        subprocess.run(words, input=content, cwd=target, check=True, capture_output=True)
        assert list(described_tree(target / "files")) == before


@settings(max_examples=15, deadline=None)
@given(tree=trees)
def test_the_same_folder_gives_the_same_bytes(tree: dict[str, Any]) -> None:
    with a_folder(tree) as folder:
        assert archived(folder)[1] == archived(folder)[1]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_archive_is_refused_and_the_target_stays(data: st.DataObject) -> None:
    tree = {"a": ("file", b"abc" * 400, 0o640, 5, {}), "d": ("folder", {"l": ("link", "../a")}, 0o700, 7)}
    with a_folder(tree) as folder:
        archive, content = archived(folder)
        target = folder.with_name("there")
        target.mkdir()
        (target / "old").write_text("old")
        changed = bytearray(content)
        if data.draw(st.booleans(), "cut"):
            del changed[data.draw(st.integers(0, len(content) - 1)) :]
        else:
            changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            restore(
                lambda: contextlib.closing(io.BytesIO(changed)), target, archive.tally.merkle_root, now=NOW
            )
        except PhoenixError:
            assert (target / "old").read_text() == "old"
        else:  # a byte that means nothing: padding, or a number of a header that is not used
            assert list(described_tree(target)) == list(described_tree(folder))
        assert not list(folder.parent.glob(".phoenix-new-*"))


@settings(max_examples=40, deadline=None)
@given(tree=trees)
def test_an_archive_is_examined_without_a_disk(tree: dict[str, Any]) -> None:
    with a_folder(tree) as folder:
        archive, content = archived(folder)
        manifest = SimpleNamespace(content={"merkleRoot": archive.tally.merkle_root})
        with FilesStructure().examine(manifest) as examination:  # type: ignore[arg-type]
            for begin in range(0, len(content), 5000):
                examination.write(content[begin : begin + 5000])
            said = examination.finish()
        assert said.startswith(f"{archive.tally.entries} names")
        for wrong in (content[: len(content) // 2], content.replace(b'"mode":', b'"mode" :', 1)):
            with pytest.raises(PhoenixError):
                examined(io.BytesIO(wrong), archive.tally.merkle_root)
        with pytest.raises(Corrupted, match="not the one of this backup"):
            examined(io.BytesIO(content), "0" * 64)


def test_a_changed_byte_of_a_file_is_found_in_the_examination(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    archive, content = archived(tmp_path)
    changed = content.replace(b"content", b"CONTENT", 1)
    manifest = SimpleNamespace(content={"merkleRoot": archive.tally.merkle_root})
    with (
        pytest.raises(Corrupted, match="'a' is not as the manifest says: sha256"),
        FilesStructure().examine(manifest) as examination,  # type: ignore[arg-type]
    ):
        write_all(examination, changed)


def write_all(examination: FilesExamination, content: bytes) -> None:
    examination.write(content)
    examination.finish()


@given(value=times)
def test_times_keep_their_nanoseconds(value: int) -> None:
    assert nanoseconds(seconds(value)) == value


entries = st.builds(
    Entry,
    path=names,
    kind=st.sampled_from(Kind),
    mode=modes,
    mtime=times,
    size=st.integers(0, 2**60),
    target=names,
    fuzzy=st.booleans(),
)


@given(entry=entries)
def test_lines_of_the_manifest_come_back(entry: Entry) -> None:
    assert parsed(line(entry)) == entry


@given(leaves=st.lists(st.binary(max_size=5), max_size=40), data=st.data())
def test_no_two_manifests_have_one_root(leaves: list[bytes], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.binary(max_size=5), max_size=40))
    assert (root(leaves) == root(other)) == (leaves == other)


@pytest.mark.parametrize(
    ("count", "expected"),
    [  # RFC 6962 as Certificate Transparency's own tests have it
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ],
)
def test_roots_are_those_of_the_standard(count: int, expected: str) -> None:
    known = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    assert root([bytes.fromhex(leaf) for leaf in known[:count]]) == expected


def root(leaves: list[bytes]) -> str:
    merkle = Merkle()
    for leaf in leaves:
        merkle.add(leaf)
    return merkle.root()


def archived(folder: Path) -> tuple[Archive, bytes]:
    archive = Archive(folder)
    return archive, b"".join(archive)


@contextlib.contextmanager
def a_folder(tree: dict[str, Any]) -> Any:
    place = Path(tempfile.mkdtemp(prefix="phoenix-tree-"))
    try:
        folder = place / "state"
        folder.mkdir()
        build(folder, tree, [])
        yield folder
    finally:
        subprocess.run(("chmod", "-R", "u+rwX", place), check=False)
        shutil.rmtree(place)
