"""What README and documentation tell a reader to type is understood, and the example really runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.faults.story import until
from tests.integration.test_failed_starts import Place

from phoenix_orch.cli.root import command_tree

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def typed(page: Path) -> Iterator[str]:
    """Every `phoenix` command in the console blocks of a page, without what a shell does around it."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in re.findall(r"^\$ (phoenix .*)$", block.replace("\\\n", " "), re.MULTILINE):
            yield re.split(r"\s(?:#|>|\||;|&)|;", line)[0].strip()


COMMANDS = sorted({(str(page.relative_to(ROOT)), line) for page in PAGES for line in typed(page)})


def test_there_are_commands_to_look_at():
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_in_the_documentation_is_understood(page, line):
    command, words, name = command_tree(), shlex.split(line)[1:], "phoenix"
    while hasattr(command, "commands") or name == "phoenix":
        context = command.make_context(name, words)
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(name, words)


@pytest.mark.slow
def test_the_example_of_the_readme_runs_with_nothing_but_python(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = [line for page, line in COMMANDS if page == "README.md"]
    assert {"phoenix init", "phoenix validate", "phoenix up --speed 20"} <= set(told)
    place = Place(tmp_path)
    (tmp_path / "phoenix.yaml").unlink()

    def phoenix(*words: str) -> str:
        process = place.popen(*words)
        said = process.communicate(timeout=60)[0]
        assert process.returncode == 0, said
        return said

    phoenix("init")
    file = tmp_path / "phoenix.yaml"
    file.write_text(file.read_text().replace("8080", str(place.port)))
    assert "is valid" in phoenix("validate")
    with place.up("--speed", "20"):
        users = re.search(r"\$ python3 -c '(import time.*?)'\n", text, re.DOTALL)
        assert users is not None
        program = users.group(1).replace("8080", str(place.port))
        url = f"http://127.0.0.1:{place.port}/"
        until("the first answer", lambda: httpx.get(url).status_code == 200)
        calling = subprocess.Popen([sys.executable, "-c", program])
        try:
            assert "would" in phoenix("rollout", "start", "web", "--version", "2", "--dry-run").lower()
            phoenix("rollout", "start", "web", "--version", "2")
            until("users are counted", lambda: counted(phoenix("rollout", "status", "web", "-o", "json")))
            # On a busy machine the first phase may be over: then more requests are wanted.
            explained = phoenix("rollout", "explain", "web")
            assert "No fault found so far" in explained or "Needs more evidence" in explained
            phoenix("rollout", "undo", "web")
            assert calling.poll() is None
        finally:
            calling.kill()
            calling.wait()
    assert place.processes() == {}


def counted(shown: str) -> bool:
    view = json.loads(shown)
    return view["rollout"]["status"]["state"] == "Progressing" and view["stable"]["requests"] > 0
