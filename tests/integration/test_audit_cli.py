"""`phoenix audit` and GET /api/v1/audit on a log in a directory; no Phoenix runs."""

from __future__ import annotations

import asyncio
import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.fake_phoenix import FakeOperations
from tests.integration.known import admin
from tests.integration.locked import Locked

from phoenix_orch.api.server import create_app
from phoenix_orch.cli.main import run
from phoenix_orch.orchestrator.audit_views import viewed
from phoenix_orch.security.audit_chain import Entry, Outcome
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.rights import Role

NOW = datetime.now(UTC)


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit", largest=600)
    for number in range(12):
        log.append(
            [
                Entry(
                    at=NOW - timedelta(days=12 - number),
                    actor="ann" if number % 2 else "phoenix",
                    action="rollout.abort" if number % 3 else "config.apply",
                    target="rollout/shop",
                    reason=f"=reason {number}",
                    after={"weight": number},
                    outcome=Outcome.DONE,
                )
            ]
        )
    return log


def phoenix(log: AuditLog, *words: str) -> int:
    return run(["audit", *words, "--data-dir", str(log.files()[0].parent.parent)])


def listed(log: AuditLog, capsys: pytest.CaptureFixture[str], *words: str) -> list[int]:
    assert phoenix(log, "list", "-o", "json", *words) == 0
    return [one["seq"] for one in json.loads(capsys.readouterr().out)]


def test_list_filters(log: AuditLog, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(log, capsys, "--limit", "3") == [10, 11, 12]
    assert listed(log, capsys, "--actor", "ann", "--action", "config.*") == [4, 10]
    assert listed(log, capsys, "--since", "60h") == [11, 12]
    assert listed(log, capsys, "--until", (NOW - timedelta(days=10)).isoformat()) == [1, 2]
    assert listed(log, capsys, "--target", "nothing/*") == []
    assert phoenix(log, "list", "--since", "yesterday") == 2


def test_verify_names_file_line_and_record(log: AuditLog, capsys: pytest.CaptureFixture[str]) -> None:
    assert phoenix(log, "verify") == 0
    assert "the log holds: 12 records from 1 to 12" in capsys.readouterr().out
    file = log.files()[1]
    file.write_bytes(file.read_bytes().replace(b"reason", b"season", 1))
    assert phoenix(log, "verify") == 1
    said = capsys.readouterr().out
    assert f"{file.name}, line 1, record {int(file.stem)}: altered" in said


def test_a_log_that_was_made_anew_is_found_by_a_head_noted_earlier(
    log: AuditLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert phoenix(log, "head") == 0
    noted = capsys.readouterr().out.strip()
    log.append([Entry(at=NOW, actor="ann", action="a.b", target="c")])
    assert phoenix(log, "verify", "--head", noted) == 0
    forged = AuditLog(tmp_path / "other" / "audit")
    forged.append([Entry(at=NOW, actor="bob", action="a.b", target="c")] * 20)
    assert phoenix(forged, "verify") == 0
    assert phoenix(forged, "verify", "--head", noted) == 1
    assert "record 12 has another hash than was noted" in capsys.readouterr().out
    assert phoenix(log, "verify", "--head", f"99:{'0' * 64}") == 1
    assert phoenix(log, "verify", "--head", "nothing") == 2


def test_export_is_whole_and_harmless(
    log: AuditLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert phoenix(log, "export") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["seq"] for one in lines] == list(range(1, 13))
    out = tmp_path / "out.csv"
    assert phoenix(log, "export", "--format", "csv", "--to", str(out), "--actor", "ann") == 0
    rows = list(csv.DictReader(out.read_text("utf-8").splitlines()))
    assert [row["seq"] for row in rows] == ["2", "4", "6", "8", "10", "12"]
    assert rows[0]["reason"] == "'=reason 1", "no formula for a spreadsheet"
    assert out.stat().st_mode & 0o777 == 0o600


def test_prune_tells_first_and_the_rest_still_holds(
    log: AuditLog, capsys: pytest.CaptureFixture[str]
) -> None:
    assert phoenix(log, "prune", "--older-than", "6d", "--dry-run", "-o", "json") == 0
    would = json.loads(capsys.readouterr().out)["records"]
    assert would > 0
    assert log.newest(100)[0].seq == 1
    assert phoenix(log, "prune", "--older-than", "6d") == 0
    assert f"removed {would} records" in capsys.readouterr().out
    assert log.newest(100)[0].seq == would + 1
    assert phoenix(log, "verify") == 0
    assert log.newest(1)[0].action == "audit.prune"
    assert phoenix(log, "prune", "--older-than", "soon") == 2


def test_without_a_log_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", "--data-dir", str(tmp_path)]) == 2
    assert "there is no audit log" in capsys.readouterr().err


@pytest.mark.anyio
async def test_a_phoenix_elsewhere_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is on this machine says nothing about it."""
    locked = Locked(tmp_path / "d")
    token = tmp_path / "token"
    token.write_text(await locked.token(Role.VIEWER))
    for number in range(1200):
        locked.recorder.note("rollout.abort", f"rollout/{number}", reason="=enough")
    await locked.recorder.drain()
    async with locked.served() as address:

        async def asked(*words: str, status: int = 0) -> str:
            named = ["--server", address, "--token-file", str(token), "--data-dir", str(tmp_path / "none")]
            assert await asyncio.to_thread(run, [*named, "audit", *words]) == status
            told = capsys.readouterr()
            return told.out or told.err

        last = locked.log.last()
        assert (await asked("head")).strip() == f"{last.seq}:{last.hash}"
        listed = json.loads(await asked("list", "--limit", "1100", "--action", "rollout.*", "-o", "json"))
        assert [one["target"] for one in listed] == [f"rollout/{number}" for number in range(100, 1200)]
        lines = [json.loads(line) for line in (await asked("export", "--action", "rollout.*")).splitlines()]
        kept = [one for one in locked.log.after(0) if one.action == "rollout.abort"]
        assert len(kept) == 1200
        assert lines == [json.loads(viewed(one).model_dump_json(by_alias=True)) for one in kept]
        noted = locked.log.newest(10_000)[1].hash
        assert "the log holds" in await asked("verify", "--head", f"2:{noted}")
        forged = json.loads(await asked("verify", "--head", f"2:{'0' * 64}", "-o", "json", status=1))
        assert forged["faults"][0]["kind"] == "rewritten"
        assert "is no head" in await asked("verify", "--head", "nothing", status=2)
        assert "not pruned from here" in await asked("prune", status=2)


@pytest.mark.anyio
async def test_the_api_gives_page_after_page(log: AuditLog) -> None:
    transport = httpx.ASGITransport(create_app(FakeOperations(), log=log, authenticators=(admin,)))
    async with httpx.AsyncClient(transport=transport, base_url="http://phoenix/api/v1") as client:
        found: list[int] = []
        query: dict[str, Any] = {"limit": 5}
        while True:
            page = (await client.get("audit", params=query)).json()
            found = [one["seq"] for one in page["records"]] + found
            if page["before"] is None:
                break
            query["before"] = page["before"]
        assert found == list(range(1, 13))
        assert (await client.get("audit", params={"actor": "a*", "limit": 1})).json()["records"][0][
            "seq"
        ] == 12
        assert (await client.get("audit/head")).json()["seq"] == 12
        assert (await client.get("audit", params={"limit": 0})).status_code == 422


def test_a_folder_that_holds_no_log_is_no_log_that_holds(
    log: AuditLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "another").mkdir()
    assert phoenix(log, "verify", "--directory", str(tmp_path / "another")) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"there is no record of an audit log in {tmp_path / 'another'}" in shown.err
