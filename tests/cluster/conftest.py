"""Every test below here is marked `cluster` and may ask for a real Kubernetes API server.

`cluster`: whatever there is, shared by the session; work in `namespace`. `control_plane`: one of our own
for one test, which may stop it, kill it, and read its audit log. `node_cluster`: one with pods that run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.cluster import deployed, gateway_crds, given, programs, rollouts, serving
from tests.cluster.helm_program import Helm
from tests.cluster.image_builder import IMAGE, Builder
from tests.cluster.kubectl import Cluster
from tests.cluster.node import images, storage
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.storage import Storage
from tests.cluster.plane import ControlPlane
from tests.cluster.release_world import World, a_world
from tests.cluster.serving import Phoenix
from tests.cluster.stage import INGRESS, Stage
from tests.integration import real_prometheus
from tests.integration.real_prometheus import Job, RealPrometheus

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.runtime.valkey_server import ValkeyServer

_HERE = Path(__file__).parent
_ROOT = os.geteuid() == 0


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.cluster)
            if "node_cluster" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(900))  # the first of a session starts it


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build here, where no test's time limit runs and progress is seen."""
    wanted = {
        name
        for item in session.items
        if item.path.is_relative_to(_HERE)
        for name in getattr(item, "fixturenames", ())
    }
    kinds: list[type[ControlPlane]] = []
    if "control_plane" in wanted or ("cluster" in wanted and given.needs_programs()):
        kinds.append(ControlPlane)
    if "node_cluster" in wanted and _ROOT:
        kinds.append(NodeCluster)
    if session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    builds: list[Callable[[], object]] = [kind.prepare for kind in kinds]
    if "helm" in wanted:
        builds.append(prepare_helm)
    if "node_storage" in wanted and _ROOT:
        builds.append(storage.prepare)
    if "csi_programs" in wanted:
        builds.append(storage.prepare_sanity)
    for build in builds:
        try:
            with capture.global_and_fixture_disabled():
                build()
        except Terminal as error:
            raise pytest.UsageError(str(error)) from error


def prepare_helm() -> None:
    programs.find(programs.CHART)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with given.any_cluster() as found:
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new one; it goes with everything in it."""
    with _new_namespace(cluster) as name:
        yield name


@contextlib.contextmanager
def _new_namespace(cluster: Cluster) -> Iterator[str]:
    name = f"phoenix-test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
async def kube(cluster: Cluster, namespace: str) -> AsyncIterator[KubeClient]:
    """The administrator's client, in a namespace of its own."""
    async with KubeClient(load(cluster.kubeconfig, namespace=namespace)) as client:
        yield client


@pytest.fixture
async def world(
    request: pytest.FixtureRequest, cluster: Cluster, namespace: str, log_store: str
) -> AsyncIterator[World]:
    """A shop that Phoenix releases, for the kind of router that the test is about."""
    rollouts.define(cluster)
    gateway_crds.install(cluster)
    async with a_world(cluster, namespace, request.param, log=log_store) as made:
        yield made


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    return Helm(programs.find(programs.CHART)["helm"], tmp_path)


@pytest.fixture
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane.running(audit=True) as plane:
        yield plane


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[NodeCluster]:
    """One of our own with a node and Traefik, shared by the session; work in `node_namespace`."""
    if not _ROOT:
        pytest.skip("a cluster with a node needs namespaces and cgroups: run the tests as root")
    with NodeCluster.running(audit=True) as made:
        yield made


@pytest.fixture
def node_namespace(node_cluster: NodeCluster) -> Iterator[str]:
    """A new one in `node_cluster`; it goes with everything in it."""
    with _new_namespace(node_cluster) as name:
        yield name


@pytest.fixture(scope="session")
def node_storage(node_cluster: NodeCluster) -> Storage:
    """Volumes for the claims of `node_cluster`, and snapshots of them: classes `storage.CLASS`."""
    return storage.start(node_cluster)


@pytest.fixture(scope="session")
def node_phoenix(node_cluster: NodeCluster) -> str:
    """An image of Phoenix on the node, without what `Containerfile` has besides."""
    files, made = images.phoenix()
    node_cluster.import_images(files, [made])
    return made.reference


@pytest.fixture(scope="session")
def csi_programs() -> dict[str, Path]:
    """`csi-driver`, and `csi-sanity`, which says whether it is one."""
    return storage.prepare_sanity()


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Builds images as users do; as root."""
    return Builder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def base(builder: Builder) -> str:
    """Of `image`: a Python on Debian."""
    return builder.base()


@pytest.fixture(scope="session")
def image(builder: Builder, base: str) -> Iterator[str]:
    """That of `Containerfile`."""
    builder.build(base, IMAGE)
    yield IMAGE
    builder("rmi", IMAGE)


@pytest.fixture(scope="session")
def node_image(
    builder: Builder, image: str, node_cluster: NodeCluster, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The same, on the node."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    builder.save(image, path)
    node_cluster.import_archive(path)
    return image


@pytest.fixture(scope="session")
def router_metrics(node_cluster: NodeCluster) -> Iterator[RealPrometheus]:
    """A Prometheus that reads Traefik's."""
    with real_prometheus.running(Job("traefik", node_cluster.metrics_port, {})) as server:
        yield server


@pytest.fixture(scope="session")
def log_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where Phoenix keeps its log; the address."""
    keeper = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    yield asyncio.run(keeper.ensure()).url
    asyncio.run(keeper.stop())


@pytest.fixture
def stage(request: pytest.FixtureRequest, node_cluster: NodeCluster, node_namespace: str) -> Stage:
    """A shop behind a router; the parameter says which."""
    made = Stage(node_cluster, node_namespace, getattr(request, "param", INGRESS))
    made.set_up()
    return made


@pytest.fixture
def phoenix(
    stage: Stage, router_metrics: RealPrometheus, log_store: str, tmp_path: Path
) -> Iterator[Phoenix]:
    """Its three processes, at work on the stage."""
    with serving.running(
        tmp_path,
        cluster=stage.cluster,
        namespace=stage.namespace,
        store=log_store,
        prometheus=router_metrics.url,
    ) as processes:
        yield processes


@pytest.fixture(scope="module")
def phoenix_namespace(node_cluster: NodeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The namespace in which Phoenix itself runs, as its manifests say."""
    folder = tmp_path_factory.mktemp("deployed")
    with deployed.running(node_cluster, folder, deployed.TAGS):
        yield deployed.NAMESPACE
