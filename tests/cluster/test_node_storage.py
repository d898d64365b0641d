"""The storage of the node: its driver is one, and the real controllers work with it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

FEW = 30
"""Cases that csi-sanity has for what the driver offers; the others are left out by it."""
WAITS = 'until [ -S {socket} ]; do sleep 0.05; done; exec "$@"'


@pytest.mark.timeout(600)
@pytest.mark.skipif(os.geteuid() != 0, reason="volumes are mounted by root")
def test_the_driver_is_what_kubernetes_calls_one(csi_programs: dict[str, Path], tmp_path: Path) -> None:
    """`csi-sanity`, in a mount namespace that ends with it."""
    socket = tmp_path / "csi.sock"
    driver = [csi_programs["csi-driver"], "-name=folders", "-node=one", f"-root={tmp_path / 'root'}"]
    sanity = [csi_programs["csi-sanity"], f"--csi.endpoint={socket}", f"--csi.mountdir={tmp_path / 'mount'}"]
    sanity += [f"--csi.stagingdir={tmp_path / 'staging'}", "--ginkgo.no-color"]
    both = f"{shlex.join(map(str, [*driver, f'-socket={socket}']))} & {WAITS.format(socket=socket)}"
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", both, "sh", *map(str, sanity)],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    ran = re.search(r"(\d+) Passed \| (\d+) Failed", done.stdout)
    assert ran is not None
    assert (int(ran[1]) >= FEW, int(ran[2])) == (True, 0), ran[0]
