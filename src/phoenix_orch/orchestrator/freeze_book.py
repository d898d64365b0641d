"""What people said about freezes, in a file of the data directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.orchestrator.layout import write_whole
from phoenix_orch.rollout.freezes_by_hand import Said


class FileBook:
    """Held in memory; the file is for the next start. One process has it at a time."""

    def __init__(self, path: Path) -> None:
        """Raises Terminal for a file that cannot be read: without it releases could begin that somebody
        forbade."""
        self._path = path
        self._said = _read(path)

    @property
    def said(self) -> Said:
        return self._said

    @property
    def text(self) -> str | None:
        """What the file holds; None where nothing was ever said."""
        return None if self._said == Said() else _text(self._said)

    async def read(self) -> Said:
        return self._said

    async def change(self, how: Callable[[Said], Said]) -> None:
        """Raises Retryable where it cannot be written, and then nothing has changed."""
        new = how(self._said)
        try:
            write_whole(self._path, _text(new))
        except OSError as error:
            raise Retryable(
                f"{self._path} cannot be written: {error.strerror}", remedy="mend that and say it again"
            ) from error
        self._said = new


def _text(said: Said) -> str:
    return said.model_dump_json(by_alias=True, indent=1)


def _read(path: Path) -> Said:
    try:
        return Said.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Said()
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise Terminal(
            f"{path}, which holds the freezes that people began, cannot be read",
            remedy="mend it, or remove it and begin them again with `phoenix freeze start`",
        ) from error
