"""What destroys, from the command line of a machine whose Phoenix knows more than one who may approve."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.backup_stage import IDENTITY, SIGNER, stage
from tests.integration.locked import OWNER, Locked
from tests.redis_restoring import taken
from tests.redis_server import filled, serving

from phoenix_orch.cli.checks import State, _alone
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.keys import generate
from phoenix_orch.recovery.restore.acts import Acts, Second
from phoenix_orch.security.rights import Grant, Kind, Principal, Role

pytestmark = pytest.mark.timeout(180)
ANNA = Principal("anna", Kind.OIDC, (Grant(Role.ADMIN),))
ASK = {"action": "restore.redis", "target": "redis/here:6379 plan abc"}


class Person:
    """Somebody at a shell, who asks the Phoenix at `url`."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.data = folder / "person"
        self._environment = {**os.environ, "PHOENIX_URL": url, "PHOENIX_TOKEN": token, "COLUMNS": "200"}

    async def types(self, *words: str, code: int = 0) -> str:
        line = [sys.executable, "-m", "phoenix_orch", "--data-dir", str(self.data), *words]
        done = await asyncio.to_thread(
            subprocess.run, line, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def locked(tmp_path):
    return Locked(tmp_path / "d")


async def agreed(locked: Locked) -> str:
    """Somebody else agrees to what was asked last; its target."""
    waiting = (await locked.identity.approving.approvals())[-1]
    await locked.identity.approving.answer(waiting.id, by=OWNER, agrees=True, words="seen")
    return waiting.target


async def test_it_is_wanted_where_somebody_else_may_approve(locked):
    async with locked.http(await locked.token(Role.ADMIN, by=ANNA)) as http:
        assert (await http.post("/api/v1/approvals", json=ASK)).json() == {"wanted": False}
        await locked.token(Role.APPROVER, by=ANNA)  # speaks for the same person
        await locked.token(Role.OPERATOR, by=OWNER)  # may not approve
        assert (await http.post("/api/v1/approvals", json=ASK)).json() == {"wanted": False}
        await locked.token(Role.APPROVER, by=OWNER)
        dry = await http.post("/api/v1/approvals", json={**ASK, "dryRun": True})
        assert dry.json() == {"wanted": True}
        assert await locked.identity.approving.approvals() == []
        asked = await http.post("/api/v1/approvals", json={**ASK, "reason": "it is broken"})
        assert (asked.status_code, asked.json()["code"]) == (409, "needs_second_person")
        assert (await locked.identity.approving.approvals())[-1].reason == "it is broken"


async def test_an_approval_is_for_the_hash_of_one_plan_and_used_up(locked):
    await locked.token(Role.APPROVER, by=OWNER)
    async with locked.http(await locked.token(Role.ADMIN, by=ANNA)) as http:
        assert (await http.post("/api/v1/approvals", json=ASK)).status_code == 409
        assert await agreed(locked) == ASK["target"]
        other = {**ASK, "target": "redis/here:6379 plan abe"}
        assert (await http.post("/api/v1/approvals", json=other)).status_code == 409
        assert (await http.post("/api/v1/approvals", json=ASK)).json() == {"wanted": True}
        assert (await http.post("/api/v1/approvals", json=ASK)).status_code == 409


async def test_only_an_admin_asks_and_only_for_what_destroys_here(locked):
    async with locked.http(await locked.token(Role.APPROVER)) as http:
        assert (await http.post("/api/v1/approvals", json=ASK)).status_code == 403
    async with locked.http(await locked.token(Role.ADMIN)) as http:
        body = {**ASK, "action": "token.revoke"}
        assert (await http.post("/api/v1/approvals", json=body)).status_code == 422


async def test_a_restore_over_live_data_takes_two_and_breaking_glass_is_seen(tmp_path, locked):
    await locked.token(Role.APPROVER, by=OWNER)
    key = tmp_path / "recovery.key"
    key.write_text(f"{IDENTITY.key}\n")
    with serving(tmp_path / "server") as server:
        filled(server.client(), 30, "good:")
        backup = taken(stage(tmp_path / "bucket"), server.address).manifest.id
        (tmp_path / "bucket" / "locks").rename(tmp_path / "locks")  # of a fake lease
        old = server.digest()
        server.ask("SET", "bad", "1")
        now = server.digest()
        async with locked.served() as url:
            person = Person(tmp_path, url, await locked.token(Role.ADMIN, by=ANNA))
            words = ["restore", "plan", "redis", "--component", "redis/cache", "--signed-by", SIGNER.public]
            words += ["--to", str(server.address), "--storage", str(tmp_path / "bucket")]
            words += ["--identity", str(key), "--backup", backup]

            async def planned() -> list[str]:
                found = re.search(
                    r"phoenix (restore run redis \S+ --confirm \S+)", await person.types(*words)
                )
                assert found is not None
                return found[1].split()

            run = await planned()
            assert "approval approve" in await person.types(*run, "--reason", "bad data", code=2)
            assert server.digest() == now
            assert run[-1] in await agreed(locked)
            assert "done:" in await person.types(*run)
            assert server.digest() == old

            server.ask("SET", "bad", "2")
            run = await planned()
            await person.types(*run, code=2)  # the same plan hash, and the approval was used up
            said = await person.types(*run, "--break-glass", "nobody answers")
            assert "BREAK GLASS" in said
            assert server.digest() == old
    seconds = [one.second for one in Acts(person.data / "restores").all()]
    assert seconds == [Second.APPROVED] * 2 + [Second.BROKEN_GLASS] * 2
    (finding,) = _alone(Layout(person.data))
    assert finding.state is State.WARNING
    assert "nobody answers" in finding.detail
    kept = sorted(path.name.split(".")[1] for path in (tmp_path / "bucket" / "restores").iterdir())
    assert kept == ["asked", "asked", "done", "done"]


async def test_the_key_is_changed_by_two(tmp_path, locked):
    await locked.token(Role.APPROVER, by=OWNER)
    async with locked.served() as url:
        person = Person(tmp_path, url, await locked.token(Role.ADMIN, by=ANNA))
        await person.types("keys", "init", "--recovery-file", str(tmp_path / "safe"))
        online = person.data / "keys" / "online.key"
        before = online.read_text()
        await person.types("keys", "rotate", code=2)
        assert online.read_text() == before
        await agreed(locked)
        await person.types("keys", "rotate")
        after = online.read_text()
        assert after != before
        await person.types("keys", "rotate", code=2)  # that was agreed to for the key before
        assert online.read_text() == after
    told = [(one.action, one.outcome) for one in Acts(person.data / "restores").all()]
    assert told == [
        ("keys.init", "asked"),
        ("keys.init", "done"),
        ("keys.rotate", "asked"),
        ("keys.rotate", "done"),
    ]
    assert "AGE-SECRET" not in (person.data / "restores" / "acts.jsonl").read_text()


async def test_backups_are_sealed_anew_by_two_and_each_set_is_agreed_to_for_itself(tmp_path, locked):
    await locked.token(Role.APPROVER, by=OWNER)
    async with locked.served() as url:
        person = Person(tmp_path, url, await locked.token(Role.ADMIN, by=ANNA))
        made = json.loads(
            await person.types("keys", "init", "--recovery-file", str(tmp_path / "safe"), "-o", "json")
        )
        file = tmp_path / "phoenix.yaml"

        def sealed_for(offline: str) -> None:
            recipients = [
                {"name": "here", "key": made[0]["key"]},
                {"name": "safe", "key": offline, "offline": True},
            ]
            backup = {"storage": {"folder": str(tmp_path / "bucket")}, "recipients": recipients}
            file.write_text(json.dumps({"services": {}, "backup": backup}))

        async def types(*words: str, code: int = 0) -> str:
            return await person.types(*words, "-f", str(file), code=code)

        async def backups() -> dict[str, list[str]]:
            found = json.loads(await types("backup", "list", "-o", "json"))["backups"]
            return {one["id"]: one["status"] for one in found}

        sealed_for(made[1]["key"])
        await types("backup", "run", "config")
        before = await backups()
        sealed_for(generate().public)
        await types("keys", "rekey", "--all", "--dry-run")
        assert await locked.identity.approving.approvals() == []
        said = await types("keys", "rekey", "--all", "--reason", "the safe was opened", code=2)
        assert "approval approve" in said
        assert await backups() == before
        assert "1 backups plan" in await agreed(locked)
        await types("backup", "run", "config")  # nobody has agreed to this one, which needs it not
        sealed_for(generate().public)  # and to others than these
        await types("keys", "rekey", "--all", code=2)
        assert len(await backups()) == 2
        assert "2 backups plan" in await agreed(locked)
        assert "phoenix" not in await types("keys", "rekey", "--all")
        assert len([id_ for id_ in await backups() if id_ not in before]) >= 2
        assert "already" in await types("keys", "rekey", "--all")  # nothing is due: nobody is asked
    acts = [one for one in Acts(person.data / "restores").all() if one.action == "keys.rekey"]
    assert [(one.outcome, one.second) for one in acts] == [
        (outcome, Second.APPROVED) for _ in range(2) for outcome in ("asked", "done")
    ]
    assert len({one.target for one in acts}) == 2
    assert "AGE-SECRET" not in (person.data / "restores" / "acts.jsonl").read_text()


async def test_a_phoenix_that_is_down_holds_nothing_up(tmp_path):
    person = Person(tmp_path, "http://127.0.0.1:9", "phx_none_none")
    await person.types("keys", "init", "--recovery-file", str(tmp_path / "safe"))
    assert "nobody is asked" in await person.types("keys", "rotate")
    assert Acts(person.data / "restores").all()[-1].second is Second.UNASKED
    (finding,) = _alone(Layout(person.data))
    assert "Phoenix is down" in finding.detail
