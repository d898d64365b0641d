"""The control plane of our own: it starts alone and in company, comes back, and leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.cluster import folders, programs
from tests.cluster.folders import Folder
from tests.cluster.kubectl import Refused
from tests.cluster.plane import ControlPlane

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.runtime import detached

HOLD = """
import sys, signal
from pathlib import Path
from tests.cluster.plane import ControlPlane
signal.signal(signal.SIGINT, signal.default_int_handler)
with ControlPlane.running(Path(sys.argv[1]), controllers=False):
    print("ready", flush=True)
    signal.pause()
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """Short, as the path of a unix socket has to be."""
    path = Path(tempfile.mkdtemp(prefix="phoenix-"))
    yield path
    folders.sweep(path)
    shutil.rmtree(path)


def holder(root: Path) -> subprocess.Popen[str]:
    """A harness in a process of its own, with a control plane that is ready."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def planes(root: Path) -> list[Folder]:
    return [Folder(path) for path in root.iterdir() if path.is_dir()]


def let_go(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    process.communicate(timeout=30)


def test_two_run_side_by_side_and_know_nothing_of_each_other(root: Path) -> None:
    with (
        ControlPlane.running(root, controllers=False) as one,
        ControlPlane.running(root, controllers=False) as two,
    ):
        one.kubectl("create", "namespace", "only-here")
        assert one.port != two.port
        with pytest.raises(Refused, match="NotFound"):
            two.get("namespace", "only-here")
        # the authority of one is unknown to the clients of two
        with pytest.raises(Refused, match=r"certificate|Unauthorized"):
            two.kubectl("--server", f"https://127.0.0.1:{one.port}", "get", "namespaces")
    assert planes(root) == []


@pytest.mark.parametrize("kill", [False, True], ids=["in order", "killed"])
def test_objects_outlive_the_api_server(control_plane: ControlPlane, kill: bool) -> None:
    control_plane.kubectl("create", "namespace", "stays")
    port, uid = control_plane.port, control_plane.get("namespace", "stays")["metadata"]["uid"]
    control_plane.stop_api_server(kill=kill)
    with pytest.raises(Refused, match="refused"):
        control_plane.get("namespaces")
    control_plane.start_api_server()
    assert control_plane.port == port
    assert control_plane.get("namespace", "stays")["metadata"]["uid"] == uid


def test_secrets_are_private_and_only_loopback_listens(control_plane: ControlPlane) -> None:
    open_to_others = [
        path.name
        for pattern in ("*.kubeconfig", "*.key")
        for path in control_plane.folder.glob(pattern)
        if stat.S_IMODE(path.stat().st_mode) != 0o600
    ]
    assert open_to_others == []
    assert stat.S_IMODE(control_plane.folder.stat().st_mode) == 0o700
    listening = {
        (name, connection.laddr.ip, connection.laddr.port)
        for name, process in control_plane.state.record.processes.items()
        for connection in psutil.Process(process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("kube-apiserver", "127.0.0.1", control_plane.port)}


def test_the_audit_log_tells_what_a_user_did(control_plane: ControlPlane) -> None:
    alice = control_plane.user("alice", ["team"])
    assert "alice" in control_plane.kubectl("auth", "whoami", user=alice)
    with pytest.raises(Refused, match="Forbidden"):
        control_plane.kubectl("get", "--raw", "/api/v1/namespaces/default/secrets", user=alice)
    asked = [
        (event["verb"], event["objectRef"]["resource"], event["responseStatus"]["code"])
        for event in control_plane.audit_events("alice")
        if event.get("objectRef", {}).get("resource") == "secrets"
    ]
    assert asked == [("list", "secrets", 403)]


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "killed before it was written down"])
def test_what_a_killed_session_left_goes_at_the_next_start(root: Path, recorded: bool) -> None:
    let_go(holder(root), signal.SIGKILL)
    left = planes(root)
    processes = [process for folder in left for process in folder.record.processes.values()]
    assert len(processes) == 2
    assert all(process.alive for process in processes)
    if not recorded:
        record = left[0].record
        record.processes.clear()
        left[0].write(record)
    with ControlPlane.running(root, controllers=False) as next_one:
        assert [folder.path for folder in planes(root)] == [next_one.folder]
        assert not any(process.alive for process in processes)


def test_a_process_that_only_has_the_pid_is_left_alone(root: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        known = detached.find(other.pid)
        assert known is not None
        folder = folders.new(root)
        folder.add("etcd", known.model_copy(update={"started": "long ago"}))
        folder.end()
        assert known.alive
    finally:
        other.kill()
        other.wait()


def test_ctrl_c_leaves_nothing(root: Path) -> None:
    session = holder(root)
    processes = [process for folder in planes(root) for process in folder.record.processes.values()]
    let_go(session, signal.SIGINT)
    assert planes(root) == []
    assert not any(process.alive for process in processes)


def test_a_living_session_is_not_swept(root: Path) -> None:
    with ControlPlane.running(root, controllers=False) as plane:
        assert folders.sweep(root) == []
        plane.get("namespaces")


def test_a_program_that_does_not_start_is_reported_with_its_log(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho it is broken; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(Terminal, match=r"kube-apiserver ended .*it is broken"):
        ControlPlane.start(root)
    assert planes(root) == []


def test_up_is_kept_and_down_takes_it_away(tmp_path: Path) -> None:
    short = tempfile.mkdtemp(prefix="phoenix-")
    environment = {**os.environ, "TMPDIR": short}

    def run(action: str) -> str:
        words = [sys.executable, "-m", "tests.cluster", *action.split()]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout

    try:
        kubeconfig = run("up --no-controllers").strip().removeprefix("export KUBECONFIG=")
        assert run("up --no-controllers").strip().endswith(kubeconfig)
        processes = Folder(Path(kubeconfig).parent).record.processes.values()
        assert [process.alive for process in processes] == [True, True]
        words = [str(programs.kubectl()), "--kubeconfig", kubeconfig, "get", "namespace", "default"]
        subprocess.run(words, env={**environment, "KUBECACHEDIR": short}, check=True, capture_output=True)
    finally:
        run("down")
    assert not Path(kubeconfig).parent.exists()
    assert not any(process.alive for process in processes)
    shutil.rmtree(short)
