"""A control plane of our own: etcd, an API server and a controller manager. No node: pods stay pending.

Nothing but the API server's port on loopback can be reached from outside its folder: etcd listens on
unix sockets there, the controller manager serves nothing.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from tests.cluster import folders, programs
from tests.cluster.certificates import (
    Authority,
    certificate_user,
    key_pem,
    text,
    write_kubeconfig,
    write_private,
)
from tests.cluster.folders import Folder
from tests.cluster.kubectl import Cluster, Refused

from phoenix_orch.kernel.errors import PhoenixError, Terminal
from phoenix_orch.runtime import detached
from phoenix_orch.workload.ports import PortRange, Ports

PORTS = PortRange(30000, 32700)
"""Below the ports that Linux gives to outgoing connections, so that a restart finds its port free."""
_READY = 180.0
_POLL = 0.05
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class ControlPlane(Cluster):
    """One that runs. Make it with `start` or `running`."""

    PROGRAMS: ClassVar[tuple[str, ...]] = tuple(programs.PACKAGES)
    SERVER_NAMES: ClassVar[tuple[str, ...]] = (
        "127.0.0.1",
        "localhost",
        "kubernetes.default.svc",
        "10.96.0.1",
    )

    def __init__(self, folder: Folder, port: int, *, audit: bool) -> None:
        self.state = folder
        self.port = port
        self.authority = Authority(folder.path)
        self._audit = audit
        self._programs = programs.find(self.PROGRAMS)
        super().__init__(folder.path / "admin.kubeconfig", folder.path)
        self._users()

    @classmethod
    @contextlib.contextmanager
    def running(
        cls, root: Path | None = None, *, controllers: bool = True, audit: bool = False
    ) -> Iterator[Self]:
        """A plane for the length of a `with` block."""
        plane = cls.start(root, controllers=controllers, audit=audit)
        try:
            yield plane
        finally:
            plane.state.end()

    @classmethod
    def start(
        cls, root: Path | None = None, *, controllers: bool = True, audit: bool = False, keep: bool = False
    ) -> Self:
        """Start one and wait until it is ready. Several may run side by side.

        `controllers`: with a controller manager. `audit`: write the audit log. `keep`: it outlives this
        process. Raises Terminal, with the end of the log, when a program does not start; nothing is left.
        """
        cls.prepare()  # before there is anything to clean up: this may take minutes
        folder = folders.new(root or folders.default_root(), keep=keep)
        try:
            plane = cls(folder, free_port(), audit=audit)
            plane._bring_up(controllers=controllers)
        except BaseException:
            folder.end()
            raise
        return plane

    @classmethod
    def prepare(cls) -> None:
        """Get what it is made of, once. Raises Terminal."""
        programs.find(cls.PROGRAMS)

    def stop_api_server(self, *, kill: bool = False) -> None:
        """End the API server, at once or with 5 s for requests under way; the objects stay in etcd.

        It would wait a minute for the watches of others to end.
        """
        process = self.state.record.processes["kube-apiserver"]
        if kill:
            detached.send(process, signal.SIGKILL)
        detached.end(process, grace=5.0, name="the API server")

    def start_api_server(self) -> None:
        """Start it on its port and wait until it is ready. Raises Terminal."""
        self._spawn("kube-apiserver", self._api_server_flags())
        self._await("kube-apiserver", self._ready)

    def user(self, name: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for a user with a client certificate. Without bindings they may do next to nothing."""
        path = self.folder / f"{name.replace(':', '-').replace('/', '-')}.kubeconfig"
        authority = text(self.authority.certificate_file.read_bytes())
        user = certificate_user(self.authority.user(name, groups))
        return write_kubeconfig(path, f"https://127.0.0.1:{self.port}", authority, user)

    def audit_events(self, user: str) -> list[dict[str, Any]]:
        """What the audit log holds of one user's finished requests, oldest first."""
        lines = (self.folder / "audit.log").read_text("utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["user"]["username"] == user]

    def _users(self) -> None:
        self.user("admin", ["system:masters"])
        self.user("system:kube-controller-manager")
        server = self.authority.server(*self.SERVER_NAMES)
        write_private(self.folder / "server.key", server.key)
        write_private(self.folder / "server.crt", server.certificate)
        accounts = self.folder / "service-accounts.key"
        if not accounts.exists():
            write_private(accounts, key_pem(ec.generate_private_key(ec.SECP256R1())))
        write_private(self.folder / "audit-policy.json", json.dumps(_AUDIT_POLICY).encode())

    def _bring_up(self, *, controllers: bool) -> None:
        self._start_etcd()
        self._start_on_a_free_port()
        if controllers:
            self._start_controllers()

    def _start_etcd(self) -> None:
        client, peer = f"unix://{self.folder}/etcd.sock", f"unix://{self.folder}/etcd-peer.sock"
        self._spawn(
            "etcd",
            [
                f"--data-dir={self.folder}/etcd",
                f"--listen-client-urls={client}",
                "--advertise-client-urls=http://127.0.0.1:1",  # a host and port are demanded, nobody asks
                f"--listen-peer-urls={peer}",
                "--initial-advertise-peer-urls=http://127.0.0.1:1",
                "--initial-cluster=default=http://127.0.0.1:1",
                "--unsafe-no-fsync",  # thrown away anyway
                "--log-level=warn",
            ],
        )

    def _start_on_a_free_port(self) -> None:
        """Somebody may take the port between our look and the API server's start: then take another."""
        for _ in range(3):
            try:
                self.start_api_server()
            except Terminal as error:
                if "address already in use" not in error.message:
                    raise
                self.port = free_port()
                self._users()
            else:
                record = self.state.record
                record.port = self.port
                self.state.write(record)
                return
        raise Terminal(f"the API server found no free port from {PORTS.first} to {PORTS.last}")

    def _start_controllers(self) -> None:
        """Ready when it has made the service account that every namespace gets."""
        kubeconfig = self.folder / "system-kube-controller-manager.kubeconfig"
        self._spawn(
            "kube-controller-manager",
            [
                f"--kubeconfig={kubeconfig}",
                "--secure-port=0",
                "--leader-elect=false",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={self.folder}/service-accounts.key",
                f"--root-ca-file={self.authority.certificate_file}",
                f"--cluster-signing-cert-file={self.authority.certificate_file}",
                f"--cluster-signing-key-file={self.authority.key_file}",
            ],
        )
        self._await("kube-controller-manager", lambda: self._does("get", "serviceaccount", "default"))

    def _does(self, *words: str) -> bool:
        """kubectl succeeds."""
        try:
            self.kubectl(*words)
        except Refused:
            return False
        return True

    def _api_server_flags(self) -> list[str]:
        accounts = f"{self.folder}/service-accounts.key"
        flags = [
            f"--etcd-servers=unix://{self.folder}/etcd.sock",
            *self._place_flags(),
            f"--secure-port={self.port}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--cert-dir={self.folder}",
            f"--tls-cert-file={self.folder}/server.crt",
            f"--tls-private-key-file={self.folder}/server.key",
            f"--client-ca-file={self.authority.certificate_file}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            "--profiling=false",
        ]
        if self._audit:
            flags += [
                f"--audit-policy-file={self.folder}/audit-policy.json",
                f"--audit-log-path={self.folder}/audit.log",
                "--audit-log-mode=blocking-strict",
            ]
        return flags

    def _place_flags(self) -> list[str]:
        """Where the API server is to be found, and by whom."""
        return [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",  # there may be no other
            "--endpoint-reconciler-type=none",  # loopback is refused as an endpoint
            "--authorization-mode=RBAC",
        ]

    def _enter(self, command: list[str]) -> list[str]:
        """The command as it is run on this machine."""
        return command

    def _environment(self) -> dict[str, str]:
        return detached.harmless_environment()

    def _spawn(self, name: str, flags: list[str]) -> None:
        process = detached.spawn(
            self._enter([str(self._programs[name]), *flags]),
            output=self.folder / f"{name}.log",
            environment=self._environment(),
        )
        self.state.add(name, process)

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        """Poll until it is ready. Raises Terminal when the program ends, or takes too long."""
        give_up = time.monotonic() + _READY
        while not ready():
            for other, process in self.state.record.processes.items():
                if not process.alive:
                    raise Terminal(f"{other} ended while {name} was starting: {self._log_end(other)}")
            if time.monotonic() > give_up:
                raise Terminal(f"{name} was not ready after {_READY:.0f} s: {self._log_end(name)}")
            time.sleep(_POLL)

    def _log_end(self, name: str) -> str:
        return "\n".join((self.folder / f"{name}.log").read_text("utf-8", "replace").splitlines()[-8:])

    def _ready(self) -> bool:
        """Only our own API server answers with a certificate of this authority."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate_file))
        try:
            answer = httpx.get(
                f"https://127.0.0.1:{self.port}/readyz", verify=context, timeout=2.0, trust_env=False
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == 200


def free_port() -> int:
    """One of PORTS that nobody listens on now. Raises Terminal."""
    try:
        return Ports(PORTS, random.randrange(len(PORTS))).take()
    except PhoenixError as error:
        raise Terminal(error.message, remedy="end some test clusters: make cluster-down") from error
