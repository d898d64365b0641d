"""Whether a copy of configurations is a whole history: each object by its hash, and as many as were told."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.manifest import Level, Manifest
from phoenix_orch.recovery.pipeline import CHUNK


class ConfigStructure:
    """See `Structural`. Needs as much room below the folder for temporary files as the bundle has."""

    level = Level.STRUCTURE

    def tools(self) -> dict[str, str]:
        return {"dulwich": version("dulwich")}

    @contextlib.contextmanager
    def examine(self, manifest: Manifest) -> Iterator[ConfigExamination]:
        with tempfile.TemporaryDirectory(prefix="phoenix-") as folder, tempfile.TemporaryFile() as spool:
            yield ConfigExamination(Path(folder), spool, manifest.content)


class ConfigExamination:
    """See `Examination`."""

    def __init__(self, folder: Path, spool: IO[bytes], content: dict[str, Any]) -> None:
        self._folder = folder
        self._spool = spool
        self._content = content
        self._found: dict[str, Any] = {}

    def write(self, data: bytes, /) -> int:
        return self._spool.write(data)

    def finish(self) -> str:
        """Raises Corrupted."""
        self._spool.seek(0)
        with ConfigRepository.rebuild(self._folder / "config.git", self._spool.read, ".torn") as history:
            commits = sum(1 for _ in history.log())
            again = history.bundle()  # reads every object, and compares it with its hash
            while again.read(CHUNK):
                pass
            head = history.head().decode()
            files = history.files(head)
        objects = sum(path.endswith((".yaml", ".sops")) for path in files)
        self._compare("commit", head)
        self._compare("objects", objects)
        self._found = {"commits": commits, "objects": objects, "files": len(files)}
        return f"{commits} commits, every object by its hash; {objects} configurations in the newest"

    def found(self) -> dict[str, Any]:
        return self._found

    def _compare(self, name: str, found: Any) -> None:
        told = self._content.get(name)
        if told != found:
            raise Corrupted(f"the manifest tells of {name} {told}, and the copy has {found}")
