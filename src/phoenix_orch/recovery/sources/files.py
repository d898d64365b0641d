"""The state of an application in a folder, as one archive: at rest, checked, file by file."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phoenix_orch.kernel.errors import BadState, Terminal
from phoenix_orch.recovery import hooks
from phoenix_orch.recovery.backup_source import Capture, Facts
from phoenix_orch.recovery.consistency import Finding, checked, faults
from phoenix_orch.recovery.sources.archive import Archive
from phoenix_orch.recovery.sources.still import Still, still
from phoenix_orch.recovery.sources.tree import Tree
from phoenix_orch.recovery.sources.volume_spec import Copy, VolumeSpec

NAME = "volume.tar"
PER_ENTRY = 2048
"""Bytes of headers and padding for each name in the archive, about."""
FORMAT = "pax tar with manifest.jsonl, 1"


class FilesSource:
    """One folder. `notes`: a folder of Phoenix's own for notes of applications at rest (`hooks.py`)."""

    def __init__(
        self,
        component: str,
        folder: Path,
        spec: VolumeSpec,
        *,
        notes: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.component = component
        self._folder = folder
        self._spec = spec
        self._note = notes / f"{component.replace('/', '.')}.json"
        self._now = now

    @contextlib.contextmanager
    def capture(self) -> Iterator[Capture]:
        """The application is at rest until the folder is kept still, or, where its file system cannot do
        that, until the body has ended. Raises Terminal where a hook or a check fails."""
        with contextlib.ExitStack() as stack:
            rest = stack.enter_context(hooks.at_rest(self._spec.quiesce, self._note))
            moment = self._now()
            kept = stack.enter_context(still(self._folder, self._spec.copy_by))
            if kept.by is not Copy.DIRECT:
                rest.wake()
            findings = checked(kept.folder, self._spec.checks)
            wrong = faults(findings)
            if wrong:
                raise Terminal(
                    f"the files of {self._folder} are not whole: {wrong}",
                    remedy="mend them, or restore an earlier backup; until then that one is the newest",
                )
            yield FilesCapture(self._folder, kept, moment, findings, rest)


class FilesCapture:
    """One archive that is being read."""

    name = NAME

    def __init__(
        self, folder: Path, kept: Still, moment: datetime, findings: list[Finding], rest: hooks.Rest
    ) -> None:
        self._folder = folder
        self._kept = kept
        self._moment = moment
        self._findings = findings
        self._rest = rest
        self.estimate = sum(one.stat.st_size + PER_ENTRY for one in Tree(str(kept.folder)))
        self._archive = Archive(kept.folder)
        self._chunks = iter(self._archive)
        self._rest_of_chunk = memoryview(b"")
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        """Raises Terminal where a file cannot be read."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1024 * 1024), b""))
        parts, wanted = list[memoryview](), size
        while wanted:
            if not self._rest_of_chunk:
                chunk = next(self._chunks, b"")
                if not chunk:
                    self._ended = True
                    break
                self._rest_of_chunk = memoryview(chunk)
            part = self._rest_of_chunk[:wanted]
            self._rest_of_chunk = self._rest_of_chunk[len(part) :]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def facts(self) -> Facts:
        """Of an application that rested until the last byte it tells, too, that it was woken: raises Terminal
        where it was not."""
        if not self._ended:
            raise BadState("the archive was not read to its end")
        self._rest.wake()
        tally = self._archive.tally
        content: dict[str, Any] = {
            "entries": tally.entries,
            "files": tally.files,
            "bytes": tally.bytes,
            "merkleRoot": tally.merkle_root,
            "merkleAlgorithm": "RFC 6962, SHA-256",
            "fuzzy": tally.fuzzy,
            "checks": [one.fact() for one in self._findings],
        }
        if tally.fuzzy:
            content["fuzzyFirst"] = [name.encode("utf-8", "replace").decode() for name in tally.fuzzy_first]
        if self._archive.tree.left_out:
            content["leftOut"] = dict(sorted(self._archive.tree.left_out.items()))
        return Facts(
            consistency_point=self._moment,
            engine={"name": "files", "format": FORMAT},
            content=content,
            source={"folder": str(self._folder), "copiedBy": self._kept.by.value, "host": platform.node()},
            hooks=tuple(one.fact() for one in self._rest.results),
            measures=("files", "bytes"),
        )
