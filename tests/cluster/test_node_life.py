"""How a cluster with a node begins and ends: several at once, nothing touched, nothing left behind."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.cluster import folders
from tests.cluster.awaiting import eventually
from tests.cluster.folders import Folder
from tests.cluster.kubectl import Cluster
from tests.cluster.node import cgroups, holder, shop
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.images import SHOP

from phoenix_orch.kernel.errors import Terminal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a cluster with a node needs root"),
    pytest.mark.timeout(900),
]
HOLD = """
import sys, signal
from pathlib import Path
from tests.cluster.node.cluster import NodeCluster
signal.signal(signal.SIGINT, signal.default_int_handler)
with NodeCluster.running(Path(sys.argv[1])):
    print("ready", flush=True)
    signal.pause()
"""


@pytest.fixture
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="phoenix-"))
    yield path
    folders.sweep(path)
    shutil.rmtree(path)


def groups(name: str) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/{name}") if path.is_dir()]


def cluster_of(root: Path) -> tuple[Cluster, Folder]:
    (path,) = [path for path in root.iterdir() if path.is_dir()]
    return Cluster(path / "admin.kubeconfig", path), Folder(path)


def shop_runs(cluster: Cluster, image: str) -> None:
    cluster.apply(shop.deployment("default", image=image), shop.service("default"))
    cluster.apply(shop.ingress("default", host="shop"))
    cluster.kubectl("rollout", "status", "deployment/shop", "--timeout=240s", timeout=250)


def state_of_the_machine() -> tuple[object, ...]:
    settings = {name: Path("/proc/sys", name).read_text() for name in holder.SETTINGS}
    mounts = set(Path("/proc/self/mounts").read_text().splitlines())
    return settings, mounts, set(psutil.net_if_addrs())


def test_a_killed_session_has_touched_nothing_and_leaves_nothing(root: Path) -> None:
    before = state_of_the_machine()
    session = subprocess.Popen([sys.executable, "-c", HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    assert session.stdout is not None
    assert session.stdout.readline() == "ready\n"
    cluster, folder = cluster_of(root)
    shop_runs(cluster, f"{SHOP}:v1")
    session.kill()
    session.communicate()
    record = folder.record
    everything = [psutil.Process(each.pid) for each in record.processes.values()]
    everything += psutil.Process(record.processes["holder"].pid).children(recursive=True)
    assert any("phoenix_orch.demo.service" in one.cmdline() for one in everything)
    assert groups(record.cgroup)
    assert state_of_the_machine() == before
    # as if it had been killed before it wrote down what it started: then they are found by their arguments
    folder.write(record.model_copy(update={"processes": {}}))
    assert folders.sweep(root) == [folder.path]
    assert [one for one in everything if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    assert groups(record.cgroup) == []
    assert not folder.path.exists()
    assert state_of_the_machine() == before


def test_two_side_by_side_know_nothing_of_each_other(root: Path) -> None:
    with NodeCluster.running(root) as one, NodeCluster.running(root) as two:
        for cluster, version in ((one, "v1"), (two, "v2")):
            shop_runs(cluster, f"{SHOP}:{version}")
            eventually("it is served", functools.partial(serves, cluster.web_port, version))
        assert serves(one.web_port, "v1")
        names = [made.state.record.cgroup for made in (one, two)]
    assert [groups(name) for name in names] == [[], []]
    assert [path for path in root.iterdir() if path.is_dir()] == []


def serves(port: int, version: str) -> bool:
    answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": "shop"}, trust_env=False)
    return bool(answer.headers.get("X-Shop-Version") == version)


def test_a_program_that_does_not_start_is_reported_and_nothing_is_left(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_of_the_machine()
    broken = tmp_path / "containerd"
    broken.write_text("#!/bin/sh\necho it is broken; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(Terminal, match=r"containerd ended .*it is broken"):
        NodeCluster.start(root)
    assert [path for path in root.iterdir() if path.is_dir()] == []
    assert state_of_the_machine() == before


def test_a_cgroup_in_use_is_not_said_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_PATIENCE", 0.2)
    name = f"phoenix-test-{secrets.token_hex(4)}"
    cgroups.make(name)
    with subprocess.Popen(["sleep", "60"]) as process:
        (groups(name)[0] / "cgroup.procs").write_text(str(process.pid))
        with pytest.raises(Terminal, match="still runs"):
            cgroups.remove(name)
        process.kill()
    cgroups.remove(name)
    assert groups(name) == []
