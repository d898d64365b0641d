"""Programs of Debian packages that tests need, unpacked into the user's cache without installing them.

Those of another release of Debian come with all their libraries, the C library too, and are called by a
loader of their own: so one machine runs servers of several releases.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from phoenix_orch.kernel.errors import Terminal

_PLACES = ("usr/sbin", "usr/bin", "sbin", "bin")


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "phoenix-orch" / "debian"


def program(name: str, package: str) -> Path:
    """The machine's own program, else that of the package. Raises Terminal when it is not to be had."""
    own = shutil.which(name)
    if own is not None:
        return Path(own)
    return within(unpacked((package,)), name)


def foreign(name: str, package: str, release: str) -> Path:
    """The package's program of another release of Debian: `trixie`, `bookworm-backports`.

    Raises Terminal when it is not to be had.
    """
    root = unpacked((package,), release)
    binary = within(root, name)
    loaders = sorted(root.glob("usr/lib*/**/ld-linux-*.so.*")) or sorted(root.glob("lib*/**/ld-linux-*.so.*"))
    if not loaders:
        return binary
    libraries = [root / place for place in ("lib", "usr/lib")]
    folders = [str(found) for place in libraries for found in place.glob("*-linux-gnu*") if found.is_dir()]
    call = root / "called" / "by" / name
    call.parent.mkdir(parents=True, exist_ok=True)
    words = [str(loaders[0]), "--library-path", ":".join(folders), str(binary)]
    text = f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'
    if not call.exists() or call.read_text() != text:
        call.write_text(text)
        call.chmod(0o755)
    return call


def within(root: Path, name: str) -> Path:
    """A program below the folder of `unpacked`. Raises Terminal when it holds none of this name."""
    found = next((root / place / name for place in _PLACES if (root / place / name).exists()), None)
    if found is None:
        raise Terminal(f"{root} holds no {name}")
    return found


def unpacked(packages: Sequence[str], release: str = "") -> Path:
    """The folder into which the packages are unpacked, with those that they need and the machine lacks.

    `release`: another one than the machine's, with everything that they need.
    """
    wanted = sorted(packages)
    remedy = f"apt-get install {' '.join(wanted)}, or their like"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Terminal(f"{', '.join(wanted)}: not on this machine, which has no apt to get it", remedy=remedy)
    cache().mkdir(parents=True, exist_ok=True)
    system = platform.freedesktop_os_release()
    root = cache() / "-".join([system["ID"], release or system.get("VERSION_ID", "sid"), *wanted])
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            try:
                _unpack(wanted, root, release)
            except subprocess.CalledProcessError as error:
                message = f"{' '.join(error.cmd[:2])} failed: {error.stderr.strip()}"
                raise Terminal(message, remedy=remedy) from error
    return root


def _unpack(wanted: Sequence[str], root: Path, release: str) -> None:
    """Whole or not at all. With package lists of our own where the machine's are missing or too old."""
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    archives, lists = unfinished / "archives", unfinished / "lists"
    archives.mkdir(parents=True)
    (lists / "partial").mkdir(parents=True)
    own = ["-o", f"Dir::State::Lists={lists}"]
    if release:
        own += _of_release(release, unfinished)
        _run("apt-get", "update", *own)
        _download(wanted, archives, own)
    else:
        try:
            _download(wanted, archives, ())
        except subprocess.CalledProcessError:
            _run("apt-get", "update", *own)
            _download(wanted, archives, own)
    for archive in archives.glob("*.deb"):
        _run("dpkg-deb", "--extract", str(archive), str(unfinished / "root"))
    (unfinished / "root").rename(root)
    shutil.rmtree(unfinished)


def _of_release(release: str, folder: Path) -> list[str]:
    """Options of apt: another release from where the machine has its own, on a machine that has nothing."""
    known = _run(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"
    )
    here = platform.freedesktop_os_release()["VERSION_CODENAME"]
    place = next(line.split()[0] for line in known.splitlines() if line.split()[1:] == [here, "main"])
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    releases = [release.removesuffix("-backports"), release]
    (folder / "sources").write_text(
        "".join(f"deb [signed-by={keys}] {place} {one} main\n" for one in dict.fromkeys(releases))
    )
    (folder / "status").touch()
    options = {
        "Dir::Etc::SourceList": folder / "sources",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "APT::Default-Release": release,
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _download(wanted: Sequence[str], folder: Path, options: Sequence[str]) -> None:
    plan = _run("apt-get", "install", "--simulate", "--no-install-recommends", *options, *wanted)
    packages = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    _run("apt-get", "download", "-o", "APT::Sandbox::User=root", *options, *packages, folder=folder)


def _run(*command: str, folder: Path | None = None) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
