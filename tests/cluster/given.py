"""Which cluster the tests get: the user's, one in Docker, or a control plane of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import folders
from tests.cluster.kubectl import Cluster
from tests.cluster.plane import ControlPlane

from phoenix_orch.kernel.errors import Terminal

GIVEN = "PHOENIX_TEST_KUBECONFIG"
_CREATE_TIMEOUT = 300.0


@contextlib.contextmanager
def any_cluster(root: Path | None = None) -> Iterator[Cluster]:
    """The first there is: the cluster of PHOENIX_TEST_KUBECONFIG, kind or k3d, a plane of our own.

    Raises Terminal when the one chosen does not work; another is not tried then.
    """
    given, tool = os.environ.get(GIVEN), docker_tool()
    if given:
        with _folder(root) as folder:
            yield given_cluster(Path(given), folder)
    elif tool:
        with _folder(root) as folder:
            yield _in_docker(tool, folder)
    else:
        with ControlPlane.running(root) as plane:
            yield plane


def needs_programs() -> bool:
    """Nobody gives a cluster, so that one has to be made of programs."""
    return not os.environ.get(GIVEN) and docker_tool() is None


def given_cluster(kubeconfig: Path, folder: folders.Folder) -> Cluster:
    if not kubeconfig.is_file():
        raise Terminal(f"{GIVEN} names {kubeconfig}, which is no file")
    return Cluster(kubeconfig.absolute(), folder.path)


def docker_tool() -> str | None:
    """`kind` or `k3d`, where it is installed and a Docker engine answers."""
    tool = next((name for name in ("kind", "k3d") if shutil.which(name)), None)
    if tool is None or shutil.which("docker") is None:
        return None
    engine = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30)
    return tool if engine.returncode == 0 else None


def _in_docker(tool: str, folder: folders.Folder) -> Cluster:
    """Recorded before it is made: a killed session's cluster is deleted by the next one."""
    name, kubeconfig = (
        f"phoenix-{folder.path.name.replace('_', '-').lower()}",
        folder.path / "admin.kubeconfig",
    )
    commands = {
        "kind": (
            ["kind", "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), "--wait", "120s"],
            ["kind", "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig)],
        ),
        "k3d": (
            ["k3d", "cluster", "create", name, "--wait", "--kubeconfig-update-default=false"],
            ["k3d", "cluster", "delete", name],
        ),
    }
    create, delete = commands[tool]
    record = folder.record
    record.delete = delete
    folder.write(record)
    _run(create)
    if tool == "k3d":
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(_run(["k3d", "kubeconfig", "get", name]), "utf-8")
    return Cluster(kubeconfig, folder.path)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_CREATE_TIMEOUT)
    if done.returncode != 0:
        raise Terminal(f"{' '.join(command[:3])} failed: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def _folder(root: Path | None) -> Iterator[folders.Folder]:
    folder = folders.new(root or folders.default_root())
    try:
        yield folder
    finally:
        folder.end()
