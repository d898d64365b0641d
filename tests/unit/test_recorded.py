"""What a person does to backups and what lives is recorded before and after it, wherever that can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import BadState, Retryable, Terminal
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recorded import Wish, recorded
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.restore.acts import Act, Acts, Came, Second
from phoenix_orch.security.audit_log import AuditLog

WISH = Wish("restore.redis", "redis/here:6379", "anna", "abc", "the disk died", told={"backup": "b1"})


def acts(root: Path) -> list[Act]:
    return Acts(root / "restores").all()


def test_before_and_after_in_each_place_that_there_is(tmp_path):
    layout, store = Layout(tmp_path / "d"), FolderStore(tmp_path / "bucket")
    layout.make()
    layout.audit.mkdir()
    with recorded(layout, WISH, store=store) as done:
        (asked,) = acts(layout.root)
        assert (asked.outcome, asked.actor, asked.plan) == (Came.ASKED, "anna", "abc")
        assert (asked.reason, asked.after) == ("the disk died", {"backup": "b1"})
        done["keys"] = 7
    asked, came = acts(layout.root)
    assert (came.id, came.outcome, came.after) == (asked.id, Came.DONE, {"keys": 7})
    first, last = AuditLog(layout.audit).newest(10)
    if first.outcome != "asked":
        first, last = last, first
    assert (first.action, first.target, first.actor) == ("restore.redis", "redis/here:6379", "anna")
    assert (last.asked, last.outcome, last.after["plan"], last.after["keys"]) == (first.seq, "done", "abc", 7)
    kept = [json.loads(store.get(one.key)[0]) for one in store.list("restores/")]
    assert sorted(one["outcome"] for one in kept) == ["asked", "done"]


def test_without_an_audit_log_none_is_begun(tmp_path):
    layout = Layout(tmp_path / "d")
    with recorded(layout, WISH):
        pass
    assert [one.outcome for one in acts(layout.root)] == ["asked", "done"]
    assert not layout.audit.exists()


@pytest.mark.parametrize(
    ("error", "outcome", "said"),
    [
        (Terminal("the target is gone"), Came.FAILED, "the target is gone"),
        (BadState("it is another plan"), Came.REFUSED, "it is another plan"),
        (KeyboardInterrupt(), Came.FAILED, "KeyboardInterrupt"),
    ],
)
def test_what_fails_is_recorded_too(tmp_path, error, outcome, said):
    layout = Layout(tmp_path / "d")
    with pytest.raises(type(error)), recorded(layout, WISH):
        raise error
    last = acts(layout.root)[-1]
    assert last.outcome is outcome
    assert said in last.message


def test_an_audit_log_that_cannot_be_written_holds_nothing_up(tmp_path):
    layout = Layout(tmp_path / "d")
    (layout.audit / "lock").mkdir(parents=True)
    told: list[str] = []
    with recorded(layout, WISH, tell=told.append):
        pass
    assert [one.outcome for one in acts(layout.root)] == ["asked", "done"]
    assert len(told) == 2
    assert all("not recorded there" in one for one in told)


def test_on_a_disk_that_takes_nothing_the_storage_has_it(tmp_path):
    (tmp_path / "d").write_text("no directory")
    store = FolderStore(tmp_path / "bucket")
    with recorded(Layout(tmp_path / "d"), WISH, store=store):
        pass
    assert len(list(store.list("restores/"))) == 2


def test_what_can_be_recorded_nowhere_is_not_done(tmp_path):
    (tmp_path / "d").write_text("no directory")
    with pytest.raises(Retryable, match="nothing was done"), recorded(Layout(tmp_path / "d"), WISH):
        pytest.fail("it was done")


def test_half_a_line_of_a_dead_writer_takes_no_other_with_it(tmp_path):
    layout = Layout(tmp_path / "d")
    with recorded(layout, WISH):
        path = layout.root / "restores" / "acts.jsonl"
        path.write_bytes(path.read_bytes() + b'{"id": "hal')
    assert [one.outcome for one in acts(layout.root)] == ["asked", "done"]


def test_secrets_are_masked_and_a_broken_glass_is_loud(tmp_path):
    layout = Layout(tmp_path / "d")
    layout.audit.mkdir(parents=True)
    wish = Wish(
        "restore.redis",
        "redis/here:6379",
        "anna",
        reason="password=hunter2 is gone",
        second=Second.BROKEN_GLASS,
        told={"password": "hunter2"},
    )
    with recorded(layout, wish):
        pass
    text = (layout.root / "restores" / "acts.jsonl").read_text()
    text += "".join(path.read_text() for path in layout.audit.glob("*.jsonl"))
    assert "hunter2" not in text
    assert "BREAK GLASS: password=" in text
