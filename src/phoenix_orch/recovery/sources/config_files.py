"""The configuration of Phoenix on one machine: files, sealed as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.sources.config_items import File, Item, Tally

LARGEST = 16 * 2**20
"""Bytes of one file."""


class FileItems:
    """Files by the name they get in the backup. One that is not there is told of, and no error."""

    def __init__(self, files: Mapping[str, Path], *, namespace: str = "default") -> None:
        self._files = dict(files)
        self._namespace = namespace
        self.source: dict[str, Any] = {"files": sorted(self._files)}

    @contextlib.contextmanager
    def read(self, tally: Tally) -> Iterator[Iterator[Item]]:
        """Raises Terminal for a file that cannot be read, or is too large."""
        yield self._items(tally)

    def _items(self, tally: Tally) -> Iterator[Item]:
        for name, path in sorted(self._files.items()):
            try:
                with path.open("rb") as file:
                    content = file.read(LARGEST + 1)
            except FileNotFoundError:
                tally.not_served.append(name)
                continue
            except OSError as error:
                raise Terminal(
                    f"{path} cannot be backed up: {error.strerror}", remedy="mend its rights"
                ) from error
            if len(content) > LARGEST:
                raise Terminal(
                    f"{path} has more than {LARGEST:,} bytes", remedy="look whether it is the file"
                )
            tally.kinds["File"] += 1
            yield File(f"{self._namespace}/File/{name}.sops", content)
