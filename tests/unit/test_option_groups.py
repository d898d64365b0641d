"""Options that several commands share: they read as if each command had written them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from phoenix_orch.cli.option_groups import grouped


@dataclass(frozen=True)
class Place:
    folder: Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where.")]
    tags: Annotated[list[str] | None, typer.Option("--tag", metavar="T", help="Which.")] = None


@grouped
def look(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What.")],
    place: Place,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, help="How many.")] = 1,
) -> int:
    """Look."""
    seen.append((name, place, count))
    return count


seen: list[tuple[str, Place, int]] = []


def command() -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(look)
    return typer.main.get_command(app)


def test_the_fields_are_the_options_in_the_place_of_the_group() -> None:
    found = command()
    assert [one.name for one in found.params] == ["name", "folder", "tags", "count"]
    assert [one.required for one in found.params] == [True, True, False, False]
    assert found.help == "Look."


def test_the_command_gets_the_group() -> None:
    seen.clear()
    found = command()
    given = ["web", "--folder", "/here", "--tag", "a", "--tag", "b", "--count", "3"]
    assert found.main(args=given, standalone_mode=False) == 3
    assert found.main(args=["web", "--folder", "x"], standalone_mode=False) == 1
    assert seen == [("web", Place(Path("/here"), ["a", "b"]), 3), ("web", Place(Path("x")), 1)]
