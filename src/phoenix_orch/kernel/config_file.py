"""Read a configuration file from where a person says it is."""

from __future__ import annotations

from pathlib import Path

from phoenix_orch.kernel import files
from phoenix_orch.kernel.config import ConfigError, Problem, Source, parsed

LARGEST = 1024 * 1024
"""Bytes of a file that is read at all."""


def read(path: Path) -> Source:
    """Read a YAML file; `-` is standard input. Raises Invalid where there is none, else ConfigError."""
    name = files.name_of(path)
    return parsed(name, _text(path, name))


def _text(path: Path, name: str) -> str:
    absent = "`phoenix init` writes one; -f names another place"
    data = files.read(path, at_most=LARGEST, absent=absent)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigError(
            name,
            [
                Problem(
                    line, column, "", f"byte 0x{data[error.start]:02x} is not UTF-8", allowed="text in UTF-8"
                )
            ],
        ) from None
