"""Printing: aligned columns for people, JSON and YAML of the same models for programs."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TextIO

from pydantic import BaseModel

from phoenix_orch.cli.options import Output
from phoenix_orch.kernel.masking import Masker, masked_text
from phoenix_orch.kernel.text import escaped, plain, plain_lines
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.views import Change

Row = Sequence[str]
GAVE_UP = "GAVE UP"
"""Title of a column: requests that clients gave up on. Left out where there were none."""
GAP = 2
_NARROWEST = 10
_ROOM = 30
"""Columns that the last column of a table needs beside the others; with less it goes below them."""


def data(models: BaseModel | Sequence[BaseModel]) -> Any:
    """Models as plain data with the names that the API uses."""
    if isinstance(models, BaseModel):
        return models.model_dump(mode="json", by_alias=True)
    return [model.model_dump(mode="json", by_alias=True) for model in models]


def emit(
    output: Output,
    models: BaseModel | Sequence[BaseModel] | dict[str, Any],
    text: str,
    *,
    speed: float = 1.0,
) -> None:
    """Print `models` as JSON or YAML, or `text` for a person, folded to the width of the terminal.

    `speed` of the clock whose times and rates are in the text: where it is no watch, that is said.
    """
    if output is Output.TABLE:
        say(folded(plain_lines("\n".join(filter(None, (compressed(speed), text)))), width()))
        return
    shown = Masker().data(models if isinstance(models, dict) else data(models))
    if output is Output.JSON:
        print(escaped(json.dumps(shown, indent=2, ensure_ascii=False)))
        return
    text = _yaml(shown, all_characters=True)
    print(text if escaped(text) == text else _yaml(shown, all_characters=False), end="")


def _yaml(shown: Any, *, all_characters: bool) -> str:
    """As YAML; without `all_characters` what is not ASCII is escaped, controls of terminals among it."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - most output is no YAML

    buffer = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = all_characters
    yaml.dump(shown, buffer)
    return buffer.getvalue()


def say(text: str, *, to: TextIO | None = None) -> None:
    """Print lines for a person; whatever came from elsewhere, no control goes to the terminal."""
    print(masked_text(plain_lines(text)), file=to, flush=True)


def tell(text: str, *, to: TextIO | None = None) -> None:
    """As `say`, in the midst of an act: it does not end half-way where that has no room, or no reader."""
    with contextlib.suppress(OSError):
        say(text, to=to)


def compressed(speed: float) -> str:
    """What to say before times and rates that are not those on a watch; empty where they are."""
    if speed == 1:
        return ""
    seconds = 60 / speed
    minute = format_duration(timedelta(seconds=round(seconds, 3 if seconds < 1 else 1)))
    return f"Times and rates are compressed (--speed {speed:g}): one minute is {minute} on your watch."


def columns(header: Row, rows: Sequence[Row], *, empty: str, indent: int = 0, whole: bool = True) -> str:
    """Aligned columns, `indent` to the right.

    A row is one line in a pipe. On a terminal its last cell is folded in its column, or below the others
    where there is no room beside them; with `whole` false it is cut instead, for lists to scan.
    """
    if not rows:
        return " " * indent + empty
    table = [list(header), *([plain(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    limit = width()
    lines = [_line(row, widths, None if limit is None else limit - indent, whole=whole) for row in table]
    return textwrap.indent("\n".join(lines), " " * indent)


def span(header: Row, rows: Sequence[Row]) -> int:
    """Columns of a terminal that the table needs to stand in one line for each row."""
    table = [header, *([plain(cell) or "-" for cell in row] for row in rows)]
    return sum(max(len(row[index]) for row in table) + GAP for index in range(len(header))) - GAP


def without_empty(header: Row, rows: Sequence[Row], title: str) -> tuple[Row, list[Row]]:
    """Header and rows without the columns called `title`, where none of their cells says anything."""
    places = [place for place, name in enumerate(header) if name == title]
    if any(row[place] not in ("", "0") for row in rows for place in places):
        return header, list(rows)
    kept = [place for place in range(len(header)) if place not in places]
    return tuple(header[place] for place in kept), [tuple(row[place] for place in kept) for row in rows]


def _line(row: Row, widths: Sequence[int], limit: int | None, *, whole: bool) -> str:
    gap = " " * GAP
    first = gap.join(cell.ljust(size) for cell, size in zip(row[:-1], widths, strict=False))
    line = f"{first}{gap}{row[-1]}".rstrip() if len(row) > 1 else row[-1]
    if limit is None or len(line) <= limit:
        return line
    if not whole:
        return cut(line, limit)
    beside = len(first) + GAP
    longest = max(map(len, row[-1].split()), default=0)
    if limit - beside >= max(_ROOM, longest):
        return "\n".join(_words(line, limit, " " * beside))
    return "\n".join([cut(first.rstrip(), limit), *_words(f"    {row[-1]}", limit, "    ")])


def folded(text: str, limit: int | None) -> str:
    """`text` with each line that a terminal of `limit` columns would break in the middle of a word folded
    between words. None: no terminal, nothing is folded."""
    if limit is None:
        return text
    lines: list[str] = []
    for line in text.splitlines():
        begin = len(line) - len(line.lstrip())
        lines += [line] if len(line) <= limit else _words(line, limit, " " * (begin + 4))
    return "\n".join(lines)


def _words(line: str, limit: int, following: str) -> list[str]:
    """The line in pieces of at most `limit`, which a word longer than that may exceed: an address stays
    one that can be copied."""
    wrapper = textwrap.TextWrapper(
        width=limit,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
    return wrapper.wrap(line) or [""]


def cut(line: str, limit: int | None) -> str:
    """At most `limit` characters, with a sign that something is missing."""
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal; None where the stream, or standard output, is none."""
    if not (stream or sys.stdout).isatty():
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
