"""`make cluster-up` and `make cluster-down`: a cluster to work with by hand."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.cluster import folders, programs
from tests.cluster.folders import Folder
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.plane import ControlPlane

from phoenix_orch.kernel.errors import PhoenixError, Terminal


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    up = actions.add_parser("up", help="start one and keep it")
    up.add_argument("--no-controllers", action="store_true", help="no controller manager")
    up.add_argument("--node", action="store_true", help="with a node, pods and Traefik; needs root")
    up.add_argument("--audit", action="store_true", help="write audit.log")
    actions.add_parser("down", help="end it, and what killed sessions left")
    actions.add_parser("programs", help="build what is missing, and say where it is")
    words = parser.parse_args()
    try:
        if words.action == "up":
            kind = NodeCluster if words.node else ControlPlane
            _up(kind, controllers=not words.no_controllers, audit=words.audit)
        elif words.action == "down":
            _down()
        else:
            print("\n".join(str(path) for path in programs.find().values()))
    except PhoenixError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"  what to do: {error.remedy}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _up(kind: type[ControlPlane], *, controllers: bool, audit: bool) -> None:
    kept = folders.default_root() / folders.KEPT
    record = Folder(kept).record
    runs = record.processes and all(process.alive for process in record.processes.values())
    if runs and bool(record.web_port) != (kind is NodeCluster):
        raise Terminal("a cluster of the other kind is up", remedy="make cluster-down")
    if runs:
        print("it is up already", file=sys.stderr)
    else:
        Folder(kept).end()  # what is left of one that did not end in order
        begun = time.monotonic()
        kind.start(controllers=controllers, audit=audit, keep=True)
        print(f"ready after {time.monotonic() - begun:.1f} s; `make cluster-down` ends it", file=sys.stderr)
    print(f"export KUBECONFIG={kept}/admin.kubeconfig")
    web_port = Folder(kept).record.web_port
    if web_port is not None:
        print(f"Ingress and Gateway are served at http://127.0.0.1:{web_port}", file=sys.stderr)


def _down() -> None:
    root = folders.default_root()
    Folder(root / folders.KEPT).end()
    for path in folders.sweep(root):
        print(f"removed {path}, left by a killed session", file=sys.stderr)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # undo what was begun, as on Ctrl-C
    sys.exit(main())
