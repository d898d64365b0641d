"""The runbook for when everything is lost, typed word by word on a machine that has nothing but two keys."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.backup_stage import OFFLINE, SIGNER
from tests.debian import program
from tests.drill_stage import origin
from tests.faults.story import quiet_port, until
from tests.redis_server import serving
from tests.unit.applying_setting import Place

from phoenix_orch.client import Client
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.serving import Serving
from phoenix_orch.rollout.status import State, Status

pytestmark = pytest.mark.timeout(300)

PAGE = (Path(__file__).parents[2] / "docs" / "runbooks" / "disaster.md").read_text("utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE)
]
SCRIPTS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def place() -> Iterator[Path]:
    """With a short name: the socket of the API lies deep in it."""
    with tempfile.TemporaryDirectory(prefix="n") as folder:
        yield Path(folder)


class Night:
    """Somebody on call. `named`: what the page calls things, and what they are here."""

    def __init__(self, folder: Path, storage: Path, server: str) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / "recovery.key").write_text(f"{OFFLINE.key}\n")
        self.named = {"/mnt/backups": str(storage), "redis-0:6379": server, "SIGNING_KEY": SIGNER.public}
        tools = folder / "tools"
        tools.mkdir()
        for name in ("age", "zstd", "git"):
            (tools / name).symlink_to(program(name, name))
        (tools / "sops").symlink_to(Path(sys.executable).with_name("sops"))
        self.environment = {"HOME": str(self.home), "PATH": f"{tools}:{os.defpath}", "COLUMNS": "200"}

    def _as_here(self, text: str) -> str:
        for name, value in self.named.items():
            text = text.replace(name, value)
        return text

    def types(self, line: str) -> str:
        words = shlex.split(self._as_here(line))
        assert words[0] == "phoenix"
        return self._done([sys.executable, "-m", "phoenix_orch", *words[1:]])

    def runs(self, script: str) -> None:
        self._done(["bash", "-euo", "pipefail", "-c", self._as_here(script)])

    @contextlib.contextmanager
    def goes_on(self, line: str) -> Iterator[None]:
        """A command that lasts, until the body is over."""
        words = [sys.executable, "-m", "phoenix_orch", *shlex.split(line)[1:]]
        log = self.home / "log"
        with log.open("w") as said:
            running = subprocess.Popen(words, cwd=self.home, env=self.environment, stdout=said, stderr=said)
        try:
            yield
        finally:
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 130, log.read_text()
        assert "it begins with the version that the file names" in log.read_text()

    def serves(self, service: str) -> str:
        """The version of which an instance is ready."""
        with Client(self.home / ".local" / "share" / "phoenix") as client:

            def ready() -> str:
                with contextlib.suppress(PhoenixError):
                    view = client.service(service)
                    return view.version if view.ready else ""
                return ""

            return until("it serves", ready)

    def _done(self, words: list[str]) -> str:
        done = subprocess.run(
            words, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def asked_for(version: str, port: int) -> PhoenixFile:
    """A shop of one instance."""
    command = [sys.executable, "-P", "-m", "phoenix_orch.demo.service"]
    return PhoenixFile.model_validate(
        {
            "router": {"listen": f"127.0.0.1:{port}"},
            "services": {
                "shop": {
                    "version": version,
                    "command": [*command, "--port", "{port}", "--version", "{version}"],
                    "replicas": 1,
                }
            },
            "routes": {"shop": {"service": "shop"}},
        }
    )


def what_served(folder: Path) -> str:
    """What a Phoenix keeps in whose store version 1 is stable, and version 2 was taken back."""

    async def kept() -> str:
        there = Place(folder)
        port = quiet_port()
        good, bad = asked_for("1", port), asked_for("2", port)
        for file in (good, bad):
            await there.applying().apply(file, actor="me")
        rollout = await there.store.get("shop")
        stable = good.services["shop"].template().revision
        await there.store.save(rollout, Status(state=State.ROLLED_BACK, stable=stable, release=1))
        keeping = Serving(there.store, lambda: bad, folder / "serving.json")
        await keeping.look()
        return keeping.text or ""

    folder.mkdir()
    return asyncio.run(kept())


def test_from_nothing_to_a_running_redis_in_three_commands(place: Path) -> None:
    served = what_served(place / "served")
    with origin(place / "origin", serving_config=served) as lost, serving(place / "new") as server:
        digest = lost.server.digest()
        storage = place / "backups"
        shutil.copytree(lost.stage.folder, storage)
        shutil.rmtree(storage / "locks", ignore_errors=True)  # of a fake lease
        night = Night(place, storage, str(server.address))
        plan, run, status = COMMANDS

        said = night.types(plan)
        asked = re.search(r"do it: (phoenix restore run redis (\S+) --confirm (\S+))", said)
        assert asked is not None, said
        assert run.replace("ID", asked[2]).replace("HASH", asked[3]) == asked[1]
        said = night.types(asked[1])
        assert server.digest() == digest
        look = re.search(r"look: (phoenix restore status (\S+))", said)
        assert look is not None, said
        assert status.replace("ID", look[2]) == look[1]
        assert ": done" in night.types(look[1])

        for script in SCRIPTS:
            night.runs(script)
        assert (night.home / "phoenix.json").read_text() == served
        (database,) = (night.home / "state").rglob("orders.db")
        with sqlite3.connect(database) as opened:
            assert opened.execute("SELECT count(*) FROM orders").fetchone() == (2000,)

        with night.goes_on("phoenix up -f phoenix.json --no-listen"):
            assert night.serves("shop") == "1", "what was taken back is not begun with"
