"""Programs a node needs that are written in C: the machine's own, or those of its distribution's packages,
unpacked into the user's cache folder without installing them."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.cluster import programs

from phoenix_orch.kernel.errors import Terminal

PACKAGES = {"runc": "runc", "nft": "nftables", "ip": "iproute2"}
"""Program and Debian package."""
_PLACES = ("usr/sbin", "usr/bin", "sbin", "bin")
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
    return found, _unpacked(missing) if missing else Path("/")


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{_SYSTEM_PLACES}"


def _write_call(script: Path, root: Path, name: str) -> None:
    program = next((root / place / name for place in _PLACES if (root / place / name).exists()), None)
    if program is None:
        raise Terminal(f"the package {PACKAGES[name]} holds no {name}")
    libraries = ":".join(sorted({str(library.parent) for library in root.rglob("*.so.*")}))
    script.write_text(f'#!/bin/sh\nexport LD_LIBRARY_PATH="{libraries}"\nexec "{program}" "$@"\n', "utf-8")
    script.chmod(0o755)


def _unpacked(names: Sequence[str]) -> Path:
    """The folder into which the packages of these programs are unpacked, with libraries the machine lacks."""
    wanted = sorted(PACKAGES[name] for name in names)
    remedy = f"apt-get install {' '.join(wanted)}, or their like"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Terminal(f"{', '.join(names)}: not on this machine, which has no apt to get it", remedy=remedy)
    system = platform.freedesktop_os_release()
    root = programs.cache() / "-".join([system["ID"], system.get("VERSION_ID", "sid"), *wanted])
    programs.cache().mkdir(parents=True, exist_ok=True)
    with (programs.cache() / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            try:
                _unpack(wanted, root)
            except subprocess.CalledProcessError as error:
                message = f"{' '.join(error.cmd[:2])} failed: {error.stderr.strip()}"
                raise Terminal(message, remedy=remedy) from error
    return root


def _unpack(wanted: Sequence[str], root: Path) -> None:
    """Whole or not at all. With package lists of our own where the machine's are missing or too old."""
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    archives, lists = unfinished / "archives", unfinished / "lists"
    archives.mkdir(parents=True)
    try:
        _download(wanted, archives, ())
    except subprocess.CalledProcessError:
        (lists / "partial").mkdir(parents=True)
        own = ("-o", f"Dir::State::Lists={lists}")
        _run("apt-get", "update", *own)
        _download(wanted, archives, own)
    for archive in archives.glob("*.deb"):
        _run("dpkg-deb", "--extract", str(archive), str(unfinished / "root"))
    (unfinished / "root").rename(root)
    shutil.rmtree(unfinished)


def _download(wanted: Sequence[str], folder: Path, options: Sequence[str]) -> None:
    plan = _run("apt-get", "install", "--simulate", "--no-install-recommends", *options, *wanted)
    packages = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    _run("apt-get", "download", "-o", "APT::Sandbox::User=root", *options, *packages, folder=folder)


def _run(*command: str, folder: Path | None = None) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
