"""`phoenix rollout abort` with Phoenix dead: the traffic object itself is latched."""

from __future__ import annotations

import os
import socket
import time

import pytest
from tests.integration.released_route import group, in_thread, releasing

from phoenix_orch.cli import main
from phoenix_orch.client import offline
from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.rollout.aborts_by_hand import AbortNotes
from phoenix_orch.runtime.users import name_of
from phoenix_orch.traffic.embedded import EmbeddedRouter


async def test_abort_needs_no_phoenix(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path))
    await releasing(tmp_path)

    def abort(*more):
        return main.run(["rollout", "abort", "web", *more])

    status = await in_thread(abort, "--dry-run")
    assert status == 0
    assert "would abort revision new, which gets 20 % of the requests" in capsys.readouterr().out
    assert (await EmbeddedRouter(tmp_path / "router").read("web")).weight == 20
    assert await in_thread(abort) == 0
    shown = capsys.readouterr()
    assert "abort web: revision new is latched; no router runs now" in shown.out
    assert "Phoenix is not running" in shown.err
    state = await EmbeddedRouter(tmp_path / "router").read("web")
    assert (state.weight, state.aborted) == (0, ("new",))
    assert await in_thread(abort) == 0  # once more does no harm


async def test_abort_goes_past_a_phoenix_that_hangs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path))
    await releasing(tmp_path)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / "phoenix.sock"))
        hanging.listen()
        begun = time.monotonic()
        assert await in_thread(main.run, ["rollout", "abort", "web"]) == 0
        assert time.monotonic() - begun < 4
    assert "did not answer within 2 s" in capsys.readouterr().err
    assert (await EmbeddedRouter(tmp_path / "router").read("web")).weight == 0


async def test_abort_by_hand_in_the_bake_puts_the_previous_revision_back(tmp_path):
    await releasing(tmp_path, stable=group("new"), canary=None, previous=group("old"), weight=0)
    aborted = await in_thread(offline.abort, tmp_path, "web")
    assert (aborted.revision, aborted.state.stable.revision) == ("new", "old")


async def test_abort_by_hand_once_more_in_the_bake_leaves_the_good_revision_alone(tmp_path):
    await releasing(tmp_path, stable=group("new"), canary=None, previous=group("old"), weight=0)
    for _ in range(2):
        aborted = await in_thread(offline.abort, tmp_path, "web")
        assert aborted.revision == "new"
        assert (aborted.state.stable.revision, aborted.state.aborted) == ("old", ("new",))


async def test_abort_by_hand_touches_no_other_revision_than_the_one_that_is_meant(tmp_path):
    before = await releasing(tmp_path)
    with pytest.raises(BadState, match="revision gone of web is not on its way any more; new is"):
        await in_thread(lambda: offline.abort(tmp_path, "web", revision="gone"))
    assert await EmbeddedRouter(tmp_path / "router").read("web") == before


async def test_abort_by_hand_latches_one_that_gets_no_traffic_yet(tmp_path):
    await releasing(tmp_path, canary=None, weight=0)
    aborted = await in_thread(lambda: offline.abort(tmp_path, "web", revision="new"))
    assert (aborted.revision, aborted.state.aborted) == ("new", ("new",))
    with pytest.raises(BadState, match="no release of web is on its way"):
        await in_thread(lambda: offline.abort(tmp_path, "web", revision="old"))


async def test_abort_by_hand_notes_who_and_why_and_the_first_word_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path))
    await releasing(tmp_path)
    for reason in ("users complain", "again"):
        words = ["rollout", "abort", "web", "--reason", reason]
        assert await in_thread(main.run, words) == 0
    note, actor = AbortNotes(tmp_path / "aborts").read("web")
    assert (note.revision, note.reason, note.weight) == ("new", "users complain", 20)
    assert actor == name_of(os.getuid())


async def test_abort_by_hand_needs_no_note(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path))
    await releasing(tmp_path)
    (tmp_path / "aborts").write_text("in the way")
    assert await in_thread(main.run, ["rollout", "abort", "web", "--reason", "bad"]) == 0
    assert "who aborted and why could not be kept: " in capsys.readouterr().err
    state = await EmbeddedRouter(tmp_path / "router").read("web")
    assert (state.weight, state.aborted) == (0, ("new",))


async def test_abort_by_hand_finds_the_route_that_was_applied(tmp_path):
    config = PhoenixFile.model_validate(
        {"services": {"web": {"command": "a {port}"}}, "routes": {"front": {"service": "web"}}}
    )
    (tmp_path / "applied.json").write_text(config.model_dump_json(by_alias=True))
    await releasing(tmp_path, "front")
    assert (await in_thread(offline.abort, tmp_path, "web")).route == "front"


async def test_abort_by_hand_refuses_what_is_not_there(tmp_path):
    with pytest.raises(NotFound, match="no route 'web'"):
        await in_thread(offline.abort, tmp_path, "web")
    await releasing(tmp_path, canary=None, weight=0)
    with pytest.raises(BadState, match="no release of web is on its way"):
        await in_thread(offline.abort, tmp_path, "web")
