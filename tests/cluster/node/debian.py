"""Programs a node needs that are written in C: the machine's own, or those of its distribution's packages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests import debian

PACKAGES = {"runc": "runc", "nft": "nftables", "ip": "iproute2"}
"""Program and Debian package."""
_SYSTEM_PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def prepare() -> None:
    """Unpack what the machine lacks. Raises Terminal when it is not to be had."""
    _find()


def provide(folder: Path) -> None:
    """Put every program into `folder`: a link, or a script that calls the unpacked one. Raises Terminal."""
    found, root = _find()
    for name, path in found.items():
        if path is not None:
            (folder / name).symlink_to(path)
        else:
            _write_call(folder / name, root, name)


def _find() -> tuple[dict[str, str | None], Path]:
    """The machine's own programs, and the folder that holds the others."""
    found = {name: shutil.which(name, path=_path()) for name in PACKAGES}
    missing = [name for name, path in found.items() if path is None]
    return found, debian.unpacked([PACKAGES[name] for name in missing]) if missing else Path("/")


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{_SYSTEM_PLACES}"


def _write_call(script: Path, root: Path, name: str) -> None:
    program = debian.within(root, name)
    libraries = ":".join(sorted({str(library.parent) for library in root.rglob("*.so.*")}))
    script.write_text(f'#!/bin/sh\nexport LD_LIBRARY_PATH="{libraries}"\nexec "{program}" "$@"\n', "utf-8")
    script.chmod(0o755)
