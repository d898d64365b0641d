"""A cluster with a node: pods run in containers, services carry traffic, Traefik serves Ingress and Gateway.

Everything is in a network namespace of its own without a way out. What this machine can reach are three
ports of its loopback, relayed into it: the API server, Traefik, and Traefik's metrics. The node itself,
that is containerd, kubelet and all pods, has namespaces for mounts and processes besides, which end
with their first process; a cgroup is all that is left then.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
from tests.cluster import programs
from tests.cluster.certificates import Pair, write_private
from tests.cluster.node import archive, cgroups, debian, images, router, settings
from tests.cluster.plane import PORTS, ControlPlane, free_port

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.runtime import detached
from phoenix_orch.runtime.detached import Process

_HERE = Path(__file__).parent
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NodeCluster(ControlPlane):
    """One that runs. Make it with `start` or `running`; it needs root."""

    PROGRAMS = tuple(programs.PACKAGES | programs.NODE)
    SERVER_NAMES = (*ControlPlane.SERVER_NAMES, settings.ADDRESS)

    web_port: int
    """Traefik, on this machine's loopback."""
    metrics_port: int
    """Traefik's metrics, there."""
    release = programs.release()
    """Of Kubernetes."""
    _first: Process
    """The first process of the node's namespaces."""

    @classmethod
    def prepare(cls) -> None:
        if os.geteuid() != 0:
            raise Terminal("a test cluster with a node can only be made by root", remedy="run it as root")
        super().prepare()
        debian.prepare()
        gateway_definitions()

    def enter(self, command: list[str]) -> list[str]:
        """The command as it is run in the cluster's network, where pods and services can be reached."""
        return [_needed("nsenter"), f"--target={self._first.pid}", "--net", "--", *command]

    def rolled_out(self, namespace: str, *names: str) -> None:
        """Wait until these Deployments have the pods they want. Raises Refused after four minutes."""
        for name in names:
            status = ("rollout", "status", f"deployment/{name}", "--timeout=240s")
            self.kubectl(*status, "-n", namespace, timeout=250.0)

    def import_images(self, files: Mapping[str, archive.File], wanted: Iterable[archive.Image]) -> None:
        """Make images of files of this machine and give them to the node. Pods that use them have
        `imagePullPolicy: Never`. Raises Terminal."""
        path = self.folder / f"{secrets.token_hex(4)}.tar"
        archive.write(path, files, wanted)
        self.import_archive(path)

    def import_archive(self, path: Path) -> None:
        """Give the node the images of an archive, which is removed. Raises Terminal."""
        done = self._ctr("--namespace", "k8s.io", "images", "import", "--local", str(path), timeout=600.0)
        path.unlink()
        if done.returncode != 0:
            raise Terminal(f"the images cannot be imported: {done.stderr.strip()}")

    def begin(self, name: str, program: Path, flags: list[str]) -> None:
        """Start a program among the node's processes; it ends with the node. What is recorded is `nsenter`,
        which waits for it."""
        process = detached.spawn(
            self._inside([str(program), *flags]),
            output=self.folder / f"{name}.log",
            environment=self._environment(),
        )
        self.state.add(name, process)

    def _bring_up(self, *, controllers: bool) -> None:
        with ThreadPoolExecutor() as pool:
            shops = pool.submit(self._write_shops)
            self._start_holder()
            self._spawn_inside("containerd", [f"--config={self.folder}/containerd.toml"])
            super()._bring_up(controllers=False)
            gateway = pool.submit(self._define_gateway)
            self._start_node()
            if controllers:
                self._start_controllers()
            self.import_archive(shops.result())
            gateway.result()
        self._start_router()
        self._await("kubelet", self._node_ready)

    def _write_shops(self) -> Path:
        path = self.folder / "shops.tar"
        archive.write(path, images.python_files("prometheus-client"), images.shops())
        return path

    def _define_gateway(self) -> None:
        self.kubectl("apply", "--server-side", "-f", str(gateway_definitions()))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=120s", timeout=130.0)
        self.apply(*router.objects())

    def _start_node(self) -> None:
        self._spawn("kube-scheduler", settings.scheduler_flags(self.folder))
        self._spawn("kube-proxy", [f"--config={self.folder}/kube-proxy.json"])
        self._await("containerd", lambda: self._ctr("version").returncode == 0)
        self._spawn_inside("kubelet", settings.kubelet_flags(self.folder))
        server = f"https://127.0.0.1:{self.port}"
        self._start_helper("names", "names.py", [settings.ADDRESS, server], sockets=[])
        pause = archive.Image(settings.PAUSE, ["/pause"], {})
        self.import_images({"/pause": self._programs["pause"]}, [pause])

    def _users(self) -> None:
        super()._users()
        self.user(f"system:node:{settings.NAME}", ["system:nodes"])
        for name in ("system:kube-proxy", "system:kube-scheduler"):
            self.user(name)
        self.user("traefik", ["system:masters"])
        self._write_pair("kubelet", self.authority.server(settings.ADDRESS, settings.NAME))
        for name in ("api-server-client", "names"):
            self._write_pair(name, self.authority.user(name, ["system:masters"]))

    def _write_pair(self, name: str, pair: Pair) -> None:
        write_private(self.folder / f"{name}.key", pair.key)
        write_private(self.folder / f"{name}.crt", pair.certificate)

    def _start_holder(self) -> None:
        """Make the namespaces. The cgroup is recorded before it is made."""
        record = self.state.record
        record.cgroup = f"phoenix-{secrets.token_hex(6)}"
        self.state.write(record)
        cgroups.make(record.cgroup)
        settings.write(self.folder, record.cgroup, old_cgroups=not cgroups.unified())
        self._gather_programs()
        process = detached.spawn(
            [
                *(_needed("unshare"), "--mount", "--net", "--pid", "--uts", "--ipc"),
                *("--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, "-P", str(_HERE / "holder.py")),
                *(f"{self.folder}/", settings.ADDRESS_BITS, settings.SERVICES),
            ],
            output=self.folder / "unshare.log",
            environment=self._environment(),
        )
        self.state.add("unshare", process)
        self._await("unshare", (self.folder / "ready").exists)
        (child,) = psutil.Process(process.pid).children()
        first = detached.find(child.pid)
        if first is None:
            raise Terminal(f"the node's first process ended: {self._log_end('unshare')}")
        self._first = first
        self.state.add("holder", first)

    def _gather_programs(self) -> None:
        """One folder with what containerd, kubelet and kube-proxy look for on their PATH."""
        folder = self.folder / "bin"
        folder.mkdir()
        for name in programs.NODE:
            (folder / name).symlink_to(self._programs[name])
        debian.provide(folder)

    def _environment(self) -> dict[str, str]:
        return {**detached.harmless_environment(), "PATH": f"{self.folder}/bin:{_SYSTEM_PATH}"}

    def _start_on_a_free_port(self) -> None:
        """Three ports of this machine lead into the node's network, where the API server has the same one:
        so one kubeconfig is right on both sides."""
        sockets = [_listener() for _ in range(3)]
        self.port, self.web_port, self.metrics_port = (one.getsockname()[1] for one in sockets)
        self._users()
        record = self.state.record
        record.port, record.web_port = self.port, self.web_port
        self.state.write(record)
        there = (self.port, router.WEB_PORT, router.METRICS_PORT)
        targets = [f"{one.getsockname()[1]}:{port}" for one, port in zip(sockets, there, strict=True)]
        self._start_helper("relay", "relay.py", targets, sockets)
        for one in sockets:
            one.close()
        self.start_api_server()

    def _start_helper(self, name: str, script: str, words: list[str], sockets: list[socket.socket]) -> None:
        """Start one of our own programs in the cluster's network; it inherits the sockets."""
        process = detached.spawn(
            self.enter([sys.executable, "-P", str(_HERE / script), f"{self.folder}/", *words]),
            output=self.folder / f"{name}.log",
            environment=detached.harmless_environment(),
            keep_open=[one.fileno() for one in sockets],
        )
        self.state.add(name, process)

    def _start_router(self) -> None:
        kubeconfig = self.folder / "traefik.kubeconfig"
        process = detached.spawn(
            self.enter([str(router.program()), f"--configFile={router.write(self.folder)}"]),
            output=self.folder / "traefik.log",
            environment={**detached.harmless_environment(), "KUBECONFIG": str(kubeconfig)},
        )
        self.state.add("traefik", process)
        self._await("traefik", self._router_ready)

    def _node_ready(self) -> bool:
        return self._does("wait", f"node/{settings.NAME}", "--for=condition=Ready", "--timeout=1s")

    def _router_ready(self) -> bool:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.metrics_port}/ping", timeout=2.0, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def _ctr(self, *words: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        command = [str(self._programs["ctr"]), "--address", settings.RUNTIME_SOCKET, *words]
        return subprocess.run(
            self._inside(command), capture_output=True, text=True, check=False, timeout=timeout
        )

    def _spawn_inside(self, name: str, flags: list[str]) -> None:
        self.begin(name, self._programs[name], flags)

    def _inside(self, command: list[str]) -> list[str]:
        namespaces = ("--mount", "--net", "--pid", "--uts", "--ipc")
        return [_needed("nsenter"), f"--target={self._first.pid}", *namespaces, "--", *command]

    def _enter(self, command: list[str]) -> list[str]:
        return self.enter(command)

    def _place_flags(self) -> list[str]:
        return settings.api_server_flags(self.folder)


def gateway_definitions() -> Path:
    """The folder with the custom resource definitions of the Gateway API."""
    return programs.sources("sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"


def _listener() -> socket.socket:
    """A listening socket on a port of the range. Raises Terminal."""
    for _ in range(5):
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", free_port()))
        except OSError:  # somebody was quicker
            listener.close()
        else:
            listener.listen(512)
            return listener
    raise Terminal(f"no port from {PORTS.first} to {PORTS.last} can be had")


def _needed(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
    if found is None:
        raise Terminal(f"{name} is missing", remedy="install util-linux")
    return found
