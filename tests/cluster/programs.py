"""Where the programs of a test cluster come from: given by the user, or built once and kept.

Each release is named in one place, the go.mod of `kubernetes`, `containers`, `storage` or `helm`; the go.sum
beside it says what the sources have to be. They are modules of their own because containerd, Helm, Kubernetes
and what provides storage want other versions of what they share.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from phoenix_orch.kernel.errors import Terminal

_HERE = Path(__file__).parent
MODULE = _HERE / "kubernetes"
CONTAINERS = _HERE / "containers"
STORING = _HERE / "storage"
HELM = _HERE / "helm"
_OWN = "phoenix-orch.io/tests/cluster/"
"""What begins the name of a package that is below this folder."""
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}
"""What a control plane needs, quickest first to fail: program and Go package."""
NODE = {
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "pause": "phoenix-orch.io/tests/cluster/containers/pause",
    "containerd": "github.com/containerd/containerd/v2/cmd/containerd",
    "containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    "ctr": "github.com/containerd/containerd/v2/cmd/ctr",
    "host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
    "loopback": "github.com/containernetworking/plugins/plugins/main/loopback",
    "ptp": "github.com/containernetworking/plugins/plugins/main/ptp",
}
"""What a node needs besides."""
STORAGE = {
    "csi-driver": "phoenix-orch.io/tests/cluster/storage/driver",
    "snapshot-controller": "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller",
    "csi-snapshotter": "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter",
    "csi-provisioner": "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner",
}
"""What gives the pods of a node volumes, and takes snapshots of them."""
SANITY = {"csi-sanity": "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"}
"""What tells whether a CSI driver is one."""
CHART = {"helm": "helm.sh/helm/v4/cmd/helm"}
"""What the chart's tests need."""
_ALL = PACKAGES | NODE | STORAGE | SANITY | CHART
REMEDY = (
    "install Go 1.26 or newer, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and"
    " kube-controller-manager, or PHOENIX_TEST_KUBECONFIG to the kubeconfig of a cluster for tests"
)
_TELL_EVERY = 15.0
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


def find(names: Iterable[str] = PACKAGES) -> dict[str, Path]:
    """The programs by name. What nobody has given is built, which takes minutes the first time.

    Raises Terminal when a program is neither there nor can be built.
    """
    names = list(names)
    missing = [name for name in names if _given(name) is None and not built(name).exists()]
    if missing:
        _build(missing)
    return {name: _given(name) or built(name) for name in names}


def kubectl() -> Path:
    """The one in KUBEBUILDER_ASSETS, or the one that came with the development environment."""
    return _given("kubectl") or Path(sys.executable).parent / "kubectl"


def release(package: str = "k8s.io/kubernetes") -> str:
    """The version of a package's module that its go.mod asks for, as `v1.36.2`.

    A package of our own has the version of its source and of what it requires.
    """
    go_mod = _module(package) / "go.mod"
    if package.startswith(_OWN):
        files = [*sorted((_HERE / package.removeprefix(_OWN)).glob("*.go")), go_mod]
        source = hashlib.sha256(b"".join(file.read_bytes() for file in files))
        return f"v0-{source.hexdigest()[:12]}"
    for module, version in re.findall(
        r"^(?:require)?\s+(\S+) (v\S+)", go_mod.read_text("utf-8"), re.MULTILINE
    ):
        if package == module or package.startswith(f"{module}/"):
            return str(version)
    raise Terminal(f"{go_mod} requires no module with {package}")


def built(name: str) -> Path:
    """Where the program is kept once it was built; the folder bears the version."""
    system = f"{platform.system().lower()}-{platform.machine().lower()}"
    return cache() / f"{name}-{release(_ALL[name])}-{system}" / name


def sources(module: str) -> Path:
    """The folder with the sources of a module that `containers/go.mod` requires; fetched if need be.

    Raises Terminal.
    """
    done = subprocess.run(
        [_go(module), "mod", "download", "-json", f"{module}@{release(module)}"],
        cwd=CONTAINERS,
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Terminal(f"the sources of {module} cannot be had: {(done.stderr or done.stdout).strip()}")
    return Path(json.loads(done.stdout)["Dir"])


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "phoenix-orch" / "test-cluster"


def _given(name: str) -> Path | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    path = Path(folder) / name if folder else None
    return path if path is not None and os.access(path, os.X_OK) else None


def _module(package: str) -> Path:
    if package.startswith(_OWN):
        return _HERE / package.removeprefix(_OWN).partition("/")[0]
    if package.startswith("helm.sh/"):
        return HELM
    if package.startswith("github.com/kubernetes-csi/"):
        return STORING
    return MODULE if package.startswith(("k8s.io/", "go.etcd.io/")) else CONTAINERS


def _go(wanted: str) -> str:
    go = shutil.which("go")
    if go is None:
        raise Terminal(f"{wanted}: not there, and Go is missing to build it", remedy=REMEDY)
    return go


def _build(names: list[str]) -> None:
    go = _go(", ".join(names))
    cache().mkdir(parents=True, exist_ok=True)
    with _only_builder() as lock:
        for name in names:
            if not built(name).exists():  # another process may have built it while we waited
                _compile(go, name, lock)


@contextlib.contextmanager
def _only_builder() -> Iterator[int]:
    """One build at a time on this machine. Gives the lock's descriptor: held by the compiler too, so that
    one which goes on after its harness was killed is waited for."""
    with (cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _tell("waiting for another process, which is building the test cluster's programs")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _compile(go: str, name: str, lock: int) -> None:
    """Build one program. After a kill the next build goes on from the packages compiled so far, which
    are in Go's own cache; the finished program gets its name in one step."""
    target = built(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished, log = target.with_suffix(".unfinished"), target.with_suffix(".log")
    command = [
        *("nice", "-n", "10", go, "build", "-v", "-trimpath", "-mod=readonly", "-buildvcs=false"),
        *("-ldflags", _link_flags(), "-o", str(unfinished), _ALL[name]),
    ]
    with log.open("wb") as output:
        build = subprocess.Popen(
            command,
            cwd=_module(_ALL[name]),
            env={**os.environ, **_go_environment(go)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
            pass_fds=[lock],
        )
        try:
            _watch(build, name, log)
        except BaseException:
            os.killpg(build.pid, signal.SIGTERM)
            build.wait()
            raise
    if build.returncode != 0:
        end = "\n".join(log.read_text("utf-8", "replace").splitlines()[-5:])
        raise Terminal(f"{name} could not be built: {end}", remedy=f"read {log}")
    unfinished.replace(target)


def _watch(build: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Wait for the build and say how far it is: on a terminal in one line, elsewhere now and then."""
    version, begun = release(_ALL[name]), time.monotonic()
    _tell(f"building {name} {version}; from nothing this takes up to ten minutes on two cores")
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            build.wait(1.0 if sys.stderr.isatty() else _TELL_EVERY)
        packages = log.read_bytes().count(b"\n")
        seconds = round(time.monotonic() - begun)
        running = build.returncode is None
        state = "" if running else (", done" if build.returncode == 0 else ", failed")
        _tell(
            f"  {name}: {packages} packages compiled, {seconds // 60} min {seconds % 60} s{state}",
            passing=running,
        )
        if not running:
            return


def _tell(text: str, *, passing: bool = False) -> None:
    """One line on standard error; the next line replaces a passing one, on a terminal."""
    terminal = sys.stderr.isatty()
    start, end = ("\r", "\x1b[K" if passing else "\x1b[K\n") if terminal else ("", "\n")
    print(f"{start}{text}", end=end, file=sys.stderr, flush=True)


def _link_flags() -> str:
    version = release()
    major, minor, *_ = version.removeprefix("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(
        ["-s -w"]
        + [f"-X {package}.{key}={value}" for package in _VERSION_PACKAGES for key, value in values.items()]
    )


def _go_environment(go: str) -> Mapping[str, str]:
    """No C compiler needed. From Go 1.27 on JSON is read in a new way by default, with which this
    release serves a broken OpenAPI document, and `kubectl apply` fails."""
    environment = {"CGO_ENABLED": "0", "GOWORK": "off"}
    version = subprocess.run(
        [go, "env", "GOVERSION"], cwd=MODULE, capture_output=True, text=True, check=False
    )
    found = re.match(r"go1\.(\d+)", version.stdout)
    if found is not None and int(found[1]) >= 27:
        environment["GOEXPERIMENT"] = "nojsonv2"
    return environment
