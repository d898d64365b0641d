"""Printing: aligned columns for people, JSON and YAML of the same models for programs."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from phoenix_orch.cli.options import Output
from phoenix_orch.orchestrator.views import Change

Row = Sequence[str]
GAP = 3
_NARROWEST = 10


def data(models: BaseModel | Sequence[BaseModel]) -> Any:
    """Models as plain data with the names that the API uses."""
    if isinstance(models, BaseModel):
        return models.model_dump(mode="json", by_alias=True)
    return [model.model_dump(mode="json", by_alias=True) for model in models]


def emit(output: Output, models: BaseModel | Sequence[BaseModel] | dict[str, Any], text: str) -> None:
    """Print `models` as JSON or YAML, or `text` for a person."""
    if output is Output.TABLE:
        print(text)
        return
    plain = models if isinstance(models, dict) else data(models)
    if output is Output.JSON:
        print(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    from ruamel.yaml import YAML  # noqa: PLC0415 - most output is no YAML

    buffer = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(plain, buffer)
    print(buffer.getvalue(), end="")


def columns(header: Row, rows: Sequence[Row], *, empty: str) -> str:
    """Aligned columns. On a terminal the last one is cut to the width; in a pipe nothing is cut."""
    if not rows:
        return empty
    table = [list(header), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    limit = width()
    return "\n".join(_line(row, widths, limit) for row in table)


def _line(row: Row, widths: Sequence[int], limit: int | None) -> str:
    line = (" " * GAP).join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
    return cut(line, limit)


def cut(line: str, limit: int | None) -> str:
    """At most `limit` characters, with a sign that something is missing."""
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def width() -> int | None:
    """Columns of the terminal; None where standard output is none."""
    if not sys.stdout.isatty():
        return None
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def changes(found: Sequence[Change], *, dry_run: bool) -> str:
    """What an apply, start or undo did, or would do."""
    header = ("WOULD CHANGE" if dry_run else "CHANGED", "TARGET", "REVISION", "VERSION", "DETAIL")
    return columns(
        header,
        [
            (change.kind.value, change.target, change.revision, change.version, change.detail)
            for change in found
        ],
        empty="nothing to change",
    )
