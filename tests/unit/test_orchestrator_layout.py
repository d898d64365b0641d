"""The data directory: one owner, one time line, whole files, and clear words where that cannot be."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from phoenix_orch.kernel.clock import RealClock, ScaledClock
from phoenix_orch.kernel.errors import BadState, Invalid
from phoenix_orch.orchestrator.layout import Layout, kept_clock, only_one, open_clock, write_whole


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "data")
    made.make()
    return made


def refuses(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_the_directory_is_its_owners_alone(layout: Layout) -> None:
    for directory in (layout.root, layout.valkey, layout.router):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    layout.make()


def test_a_directory_that_cannot_be_made_or_written_is_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="cannot be made") as refused:
        Layout(tmp_path / "file" / "data").make()
    assert "--data-dir" in refused.value.remedy
    monkeypatch.setattr(os, "access", lambda *_: False)  # as on a file system that is mounted read-only
    with pytest.raises(Invalid, match="cannot be written") as refused:
        Layout(tmp_path / "data").make()
    assert "--data-dir" in refused.value.remedy


def test_a_file_is_replaced_whole_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "applied.json"
    path.write_text("old")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_old_text_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "applied.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", refuses)
    with pytest.raises(PermissionError):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_owner_is_refused_until_the_first_is_done(layout: Layout) -> None:
    lock = layout.lock("phoenix")
    with only_one(lock, "phoenix up", "stop it first"):
        second = only_one(lock, "phoenix up", "stop it first")
        with pytest.raises(BadState, match="already runs") as refused:
            second.__enter__()
        assert refused.value.remedy == "stop it first"
    with only_one(lock, "phoenix up", ""):
        pass


def test_a_lock_that_cannot_be_opened_is_refused(layout: Layout) -> None:
    layout.lock("phoenix").mkdir()
    lock = only_one(layout.lock("phoenix"), "phoenix up", "")
    with pytest.raises(Invalid, match="cannot be opened") as refused:
        lock.__enter__()
    assert refused.value.remedy


def test_real_time_needs_no_compression(layout: Layout) -> None:
    assert isinstance(open_clock(layout, 1), RealClock)


def test_a_compressed_time_line_goes_on_where_it_was(layout: Layout) -> None:
    epoch = datetime.now(UTC) - timedelta(minutes=1)
    layout.clock.write_text(json.dumps({"epoch": epoch.isoformat(), "speed": 60.0}))
    clock = open_clock(layout, 60)
    assert isinstance(clock, ScaledClock)
    assert timedelta(minutes=59) < clock.now() - epoch < timedelta(minutes=70)
    kept = layout.clock.read_text()
    open_clock(layout, 60)
    assert layout.clock.read_text() == kept


def test_another_speed_is_refused_and_changes_nothing(layout: Layout) -> None:
    open_clock(layout, 60)
    kept = layout.clock.read_text()
    with pytest.raises(Invalid, match="started with --speed 60; found --speed 1") as refused:
        open_clock(layout, 1)
    assert "--speed 60" in refused.value.remedy
    assert layout.clock.read_text() == kept


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_speed_is_refused_before_anything_is_kept(layout: Layout, speed: float) -> None:
    with pytest.raises(Invalid, match="is no speed"):
        open_clock(layout, speed)
    assert not layout.clock.exists()


TORN = [
    "",
    "{",
    "null",
    "[1]",
    "{}",
    '{"epoch": "yesterday", "speed": 1}',
    '{"epoch": 7, "speed": 1}',
    "\x00",
]


@pytest.mark.parametrize("text", TORN)
def test_a_torn_clock_is_refused_with_a_remedy(layout: Layout, text: str) -> None:
    layout.clock.write_text(text)
    with pytest.raises(Invalid, match="cannot be read") as refused:
        open_clock(layout, 1)
    assert "--data-dir" in refused.value.remedy
    assert layout.clock.read_text() == text


NOW = "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("epoch", "speed", "field"),
    [
        ("9999-12-31T23:59:00+00:00", 60, "epoch"),
        ("9999-12-31T23:59:00-05:00", 60, "epoch"),
        ("9999-12-31T23:59:00+00:00", 1, "epoch"),
        ("0001-01-01T00:00:00+00:00", 60, "epoch"),
        ("0001-01-01T00:00:00+05:00", 60, "epoch"),
        ("2026-01-01T00:00:00", 60, "epoch"),
        (NOW, float("nan"), "speed"),
        (NOW, float("inf"), "speed"),
        (NOW, -float("inf"), "speed"),
        (NOW, 0, "speed"),
        (NOW, -20, "speed"),
        (NOW, True, "speed"),
        (NOW, "fast", "speed"),
        (NOW, 1e300, "epoch"),
    ],
)
def test_a_clock_that_shows_no_time_is_refused_with_the_field_and_what_was_found(
    layout: Layout, epoch: str, speed: object, field: str
) -> None:
    layout.clock.write_text(json.dumps({"epoch": epoch, "speed": speed}))
    with pytest.raises(Invalid) as refused:
        open_clock(layout, speed if isinstance(speed, float) and speed == 1e300 else 60)
    found = str(speed) if field == "speed" else epoch.partition("T")[0]
    assert f"{layout.clock} cannot be read: {field} is" in refused.value.message
    assert found in refused.value.message
    assert "remove the file" in refused.value.remedy
    assert isinstance(kept_clock(layout), RealClock), "an abort by hand needs no clock"


def test_a_clock_that_cannot_be_kept_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refuses)
    with pytest.raises(Invalid, match="cannot be written"):
        open_clock(layout, 60)
