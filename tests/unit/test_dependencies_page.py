"""docs/dependencies.md says of everything that pyproject.toml asks for what it is for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _asked_for() -> list[str]:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project, groups = found["project"], found["dependency-groups"].values()
    lists = [project["dependencies"], *project["optional-dependencies"].values(), *groups]
    asked = [one for each in lists for one in each if isinstance(one, str)]
    return sorted({re.split(r"[\[<>=~!]", one)[0] for one in asked})


@pytest.mark.parametrize("name", _asked_for())
def test_every_dependency_is_accounted_for(name: str) -> None:
    told = (ROOT / "docs" / "dependencies.md").read_text("utf-8").lower()
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", told), f"docs/dependencies.md lacks {name}"
