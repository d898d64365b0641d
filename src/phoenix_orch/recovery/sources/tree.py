"""A folder, name by name, always in the same order.

A folder comes before what is in it, names in the order of their bytes. In memory are the names of the folders
between the top and the present one. What lies on another file system is left out, as `tar --one-file-system`
does, and so are names that begin with the mark of our own work.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from phoenix_orch.kernel.errors import Invalid, Terminal

OURS = ".phoenix-"
"""How the names begin of what Phoenix puts beside, or into, a folder that it copies."""


@dataclass(frozen=True, slots=True)
class Name:
    """One name, and what it was when it was seen."""

    path: str
    """Relative to the folder; "." is the folder itself."""
    place: str
    """Where it is."""
    stat: os.stat_result


@dataclass(slots=True)
class Tree:
    """A walk, and what it left out."""

    folder: str
    left_out: Counter[str] = field(default_factory=Counter)
    """How many names by the reason: `socket`, `pipe`, `device`, `other file system`, `vanished`."""

    def __iter__(self) -> Iterator[Name]:
        """Raises Invalid when there is no such folder, Terminal where a part of it cannot be read."""
        try:
            top = os.stat(self.folder)  # noqa: PTH116 - a path in bytes that are no UTF-8 stays one
        except OSError as error:
            raise Invalid(
                f"the folder {self.folder} cannot be read: {error.strerror}", remedy="name one that is there"
            ) from error
        if not stat.S_ISDIR(top.st_mode):
            raise Invalid(f"{self.folder} is no folder", remedy="name a folder")
        yield Name(".", self.folder, top)
        waiting = [self._names("", top.st_dev)]
        while waiting:
            name = next(waiting[-1], None)
            if name is None:
                waiting.pop()
                continue
            yield name
            if stat.S_ISDIR(name.stat.st_mode):
                waiting.append(self._names(name.path + "/", top.st_dev))

    def _names(self, before: str, device: int) -> Iterator[Name]:
        place = os.path.join(self.folder, before)  # noqa: PTH118
        try:
            names = sorted(os.listdir(place), key=os.fsencode)  # noqa: PTH208
        except FileNotFoundError:
            self.left_out["vanished"] += 1
            return
        except OSError as error:
            raise unreadable(place, error) from error
        for name in names:
            if name.startswith(OURS):
                continue
            where = os.path.join(place, name)  # noqa: PTH118
            try:
                found = os.lstat(where)
            except FileNotFoundError:
                self.left_out["vanished"] += 1
                continue
            except OSError as error:
                raise unreadable(where, error) from error
            reason = _not_copied(found, device)
            if reason:
                self.left_out[reason] += 1
            else:
                yield Name(before + name, where, found)


def unreadable(place: str, error: OSError) -> Terminal:
    """A copy with a part missing is none."""
    return Terminal(
        f"{place} cannot be read: {error.strerror}", remedy="let Phoenix read it, or back up another folder"
    )


def _not_copied(found: os.stat_result, device: int) -> str:
    if found.st_dev != device:
        return "other file system"
    if stat.S_ISSOCK(found.st_mode):
        return "socket"
    if stat.S_ISFIFO(found.st_mode):
        return "pipe"
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        return "device"
    return ""
