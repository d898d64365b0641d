"""`phoenix doctor` on a machine where Phoenix does not run, or hangs."""

from __future__ import annotations

import os
import socket
import subprocess

from phoenix_orch.cli import checks


def findings(data_dir):
    return {finding.name.strip(): finding for finding in checks.examine(data_dir)}


def test_doctor_finds_nothing_wrong_with_a_fresh_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phoenix.yaml").write_text(f"services: {{}}\nrouter: {{listen: {free_port()}}}\n")
    found = findings(tmp_path / "data")
    assert [f for f in found.values() if f.state is checks.State.FAULT] == []
    assert found["valkey-server"].detail[0].isdigit()
    assert found["traefik"].detail[0].isdigit()
    assert "not running" in found["phoenix"].detail


def test_doctor_tells_each_fault_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        (tmp_path / "phoenix.yaml").write_text(f"services: {{}}\nrouter: {{listen: 127.0.0.1:{port}}}\n")
        taken = findings(tmp_path)[f"port {port}"]
    assert taken.state is checks.State.FAULT
    assert f"(pid {os.getpid()})" in taken.detail
    (tmp_path / "phoenix.yaml").write_text("servces: {}\n")
    long = findings(tmp_path / ("x" * 120))
    file = tmp_path / "file"
    file.touch()
    for fault in (long["socket"], long["configuration"], findings(file)["data directory"]):
        assert fault.state is checks.State.FAULT
        assert fault.remedy
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    assert findings(shared)["data directory"].state is checks.State.WARNING


def test_doctor_finds_what_a_dead_phoenix_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    marks = {"PHOENIX_DATA_DIR": str(tmp_path)}
    names = ("web-1111111111-1", "web-1111111111-2")
    left = [
        subprocess.Popen(
            ["sleep", "60"],
            env={**os.environ, **marks, "PHOENIX_INSTANCE": name},
            start_new_session=True,
        )
        for name in names
    ]
    try:
        found = [fault for fault in checks.examine(tmp_path) if fault.name == "leftover"]
    finally:
        for process in left:
            process.kill()
            process.wait()
    told = {f"{name} (pid {one.pid}) runs without a Phoenix" for name, one in zip(names, left, strict=True)}
    assert {fault.detail for fault in found} == told
    assert all("phoenix down" in fault.remedy for fault in found)
    assert findings(tmp_path)["leftovers"].state is checks.State.OK


def test_what_belongs_to_a_phoenix_that_hangs_is_no_leftover(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checks, "TIMEOUT", 0.1)
    marks = {"PHOENIX_DATA_DIR": str(tmp_path), "PHOENIX_INSTANCE": "web-1111111111-1"}
    served = subprocess.Popen(["sleep", "60"], env={**os.environ, **marks}, start_new_session=True)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "phoenix.sock"))
        silent.listen()
        try:
            found = findings(tmp_path)
        finally:
            served.kill()
            served.wait()
    assert "did not answer" in found["phoenix"].detail
    assert "leftover" not in found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
