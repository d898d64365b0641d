"""What a cluster of the tests leaves on this machine, so that it can be ended, whoever started it.

Each one has a folder with `record.json`: who owns it and which processes belong to it. A folder whose
owner is dead is ended and removed when the next cluster starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import BaseModel
from tests.cluster.node import cgroups

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.runtime import detached
from phoenix_orch.runtime.detached import Process

PROGRAMS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "traefik"),
    *("unshare", "nsenter", "holder.py", "relay.py", "names.py"),
)
"""What is started for a folder, and has it in its arguments. The rest of a node ends with `holder.py`."""
KEPT = "kept"
"""The folder of `make cluster-up`, which lives until `make cluster-down`."""


class Record(BaseModel):
    owner: Process | None = None
    """None: kept until somebody takes it down."""
    processes: dict[str, Process] = {}
    port: int | None = None
    web_port: int | None = None
    """Where the cluster's ingress controller is found."""
    delete: list[str] = []
    """The command that removes what is no process of ours, a kind cluster for instance."""
    cgroup: str = ""
    """The name of the node's cgroup."""


class Folder:
    """The folder of one cluster and its record."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record(self) -> Record:
        try:
            return Record.model_validate_json((self.path / "record.json").read_bytes())
        except FileNotFoundError:
            return Record()

    def write(self, record: Record) -> None:
        """Whole or not at all."""
        unfinished = self.path / "record.unfinished"
        unfinished.write_text(record.model_dump_json(indent=1), "utf-8")
        unfinished.replace(self.path / "record.json")

    def add(self, name: str, process: Process) -> None:
        record = self.record
        record.processes[name] = process
        self.write(record)

    def end(self) -> None:
        """End what belongs to it and remove the folder. Idempotent. Nothing in it is worth a grace."""
        record = self.record
        if record.delete:
            subprocess.run(record.delete, check=False, capture_output=True, timeout=120)
        processes = [*record.processes.values(), *_unrecorded(self.path)]
        for process in processes:
            detached.send(process, signal.SIGKILL)
        for process in processes:
            if not detached.wait(process, 60.0):
                raise Terminal(f"process {process.pid} of {self.path} does not end, although it was killed")
        if record.cgroup:
            cgroups.remove(record.cgroup)
        shutil.rmtree(self.path, ignore_errors=True)


def default_root() -> Path:
    return Path(tempfile.gettempdir()) / f"phoenix-test-cluster-{os.getuid()}"


def new(root: Path, *, keep: bool = False) -> Folder:
    """An empty folder owned by this process, or by nobody; ends what dead owners left first.

    Raises Terminal when somebody else's folder is in the way.
    """
    with _locked(root):
        _sweep(root)
        path = root / KEPT if keep else Path(tempfile.mkdtemp(prefix="c-", dir=root))
        path.mkdir(mode=0o700, exist_ok=True)
        folder = Folder(path)
        folder.write(Record(owner=None if keep else detached.find(os.getpid())))
        return folder


def sweep(root: Path) -> list[Path]:
    """End and remove what dead owners left; the folders that went."""
    with _locked(root):
        return _sweep(root)


def _sweep(root: Path) -> list[Path]:
    abandoned = []
    for path in sorted(root.iterdir()):
        if not path.is_dir() or path.name == KEPT:
            continue
        owner = Folder(path).record.owner
        if owner is None or not owner.alive:
            Folder(path).end()
            abandoned.append(path)
    return abandoned


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Making and sweeping exclude each other: a folder without a record is never one being made."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = root.lstat()
    if root.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Terminal(f"{root} is not private to you", remedy="remove it, or set TMPDIR to another folder")
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unrecorded(path: Path) -> list[Process]:
    """Processes that were started for this folder by somebody killed before writing it down."""
    found = []
    for process in psutil.process_iter(["cmdline", "uids"]):
        words = process.info["cmdline"] or [""]
        ours = process.info["uids"] and process.info["uids"].real == os.getuid()
        started = {Path(word).name for word in words[:3]}  # a script comes after its interpreter
        if ours and started & set(PROGRAMS) and any(f"{path}/" in word for word in words):
            known = detached.find(process.pid)
            found += [known] if known is not None else []
    return found
