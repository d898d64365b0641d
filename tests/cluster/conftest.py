"""Every test below here is marked `cluster` and may ask for a real Kubernetes API server.

`cluster`: whatever there is, shared by the session; work in `namespace`. `control_plane`: one of our own
for one test, which may stop it, kill it, and read its audit log.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.cluster import given, programs
from tests.cluster.kubectl import Cluster
from tests.cluster.plane import ControlPlane

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.cluster)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build here, where no test's time limit runs and progress is seen."""
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly or not wanted & {"cluster", "control_plane"}:
        return
    if "control_plane" in wanted or given.needs_programs():
        capture = session.config.pluginmanager.getplugin("capturemanager")
        try:
            with capture.global_and_fixture_disabled():
                programs.find()
        except Terminal as error:
            raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with given.any_cluster() as found:
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new one; it goes with everything in it."""
    name = f"phoenix-test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def kube(cluster: Cluster, namespace: str) -> AsyncIterator[KubeClient]:
    """The administrator's client, in a namespace of its own."""
    async with KubeClient(load(cluster.kubeconfig, namespace=namespace)) as client:
        yield client


@pytest.fixture
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane.running(audit=True) as plane:
        yield plane
