"""The first process of a node: it holds the node's namespaces, and everything in them ends with it.

    unshare --mount --net --pid … python holder.py FOLDER ADDRESS/BITS SERVICE_RANGE

It gives the node a place of its own for what containerd, kubelet and CNI plugins write at fixed paths, an
address without a way out, and kernel settings that look as kubelet wants them: these are the whole
machine's, so kubelet sees files in their place. Then it touches FOLDER/ready and reaps.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet wants to find below /proc/sys."""


def main() -> None:
    folder, address, services = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    _files(folder)
    _network(address, services)
    (folder / "ready").touch()
    _reap()


def _files(folder: Path) -> None:
    _run("mount", "--make-rshared", "/")  # among the node's processes: volumes mounted later are seen by all
    images = folder / "containerd"  # thousands of small files: on a disk it takes long to remove them
    images.mkdir()
    for place in ("/run", "/var/log", str(images)):
        _run("mount", "-t", "tmpfs", "tmpfs", place)
    upper, work = folder / "var-lib", folder / "var-lib.work"
    upper.mkdir()
    work.mkdir()
    _run(
        *("mount", "-t", "overlay", "overlay", "/var/lib"),
        *("-o", f"lowerdir=/var/lib,upperdir={upper},workdir={work}"),
    )
    for name, value in SETTINGS.items():
        setting = folder / name.replace("/", ".")
        setting.write_text(f"{value}\n")
        _run("mount", "--bind", str(setting), f"/proc/sys/{name}")


def _network(address: str, services: str) -> None:
    """A bridge without ports bears the address: not every kernel has dummy interfaces.

    A route has to lead to services before the node's own packets are sent on to pods.
    """
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "node0", "type", "bridge")
    _run("ip", "address", "add", address, "dev", "node0")
    _run("ip", "link", "set", "node0", "up")
    _run("ip", "route", "add", services, "dev", "node0")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # of this network namespace only


def _reap() -> None:
    """Bury the orphans of the namespace, for ever."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        signal.sigwait({signal.SIGCHLD})


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
