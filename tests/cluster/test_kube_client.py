"""The client against a real API server: every verb, every condition, every refusal."""

from __future__ import annotations

import asyncio
import copy

import pytest
from tests.cluster import deployments
from tests.cluster.kubectl import Cluster, Refused
from tests.cluster.test_objects import PROBE

from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.errors import (
    AlreadyExists,
    Changed,
    FieldConflict,
    FieldOwner,
    Forbidden,
    Unapplicable,
    Unauthenticated,
)
from phoenix_orch.kube.patches import json_patch, merge_patch, merge_patch_of, test
from phoenix_orch.kube.resources import (
    ALL_NAMESPACES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    Object,
    Resource,
    key_of,
    version_of,
)
from phoenix_orch.testing.api_faults import Answer
from phoenix_orch.testing.faulty_api_server import FaultyApiServer

test.__test__ = False  # type: ignore[attr-defined]  # an operation of a patch, not one of these

PROBES = Resource("test.phoenix-orch.io", "v1", "probes", "Probe")


def config(name: str = "a", labels: dict[str, str] | None = None, **data: str) -> Object:
    return {"metadata": {"name": name, **({"labels": labels} if labels else {})}, "data": data}


async def test_an_object_from_its_making_to_its_end(kube: KubeClient) -> None:
    made = await kube.create(CONFIG_MAPS, config(x="1"))
    assert key_of(made) == (kube.namespace, "a")
    assert (await kube.get(CONFIG_MAPS, "a"))["data"] == {"x": "1"}
    with pytest.raises(AlreadyExists, match=f"ConfigMap a exists already in namespace {kube.namespace}"):
        await kube.create(CONFIG_MAPS, config())
    made["data"] = {"x": "2"}
    made = await kube.replace(CONFIG_MAPS, made)
    await kube.delete(CONFIG_MAPS, "a", uid=made["metadata"]["uid"], version=version_of(made))
    with pytest.raises(NotFound, match="ConfigMap a does not exist"):
        await kube.get(CONFIG_MAPS, "a")
    with pytest.raises(NotFound):
        await kube.delete(CONFIG_MAPS, "a")


async def test_a_write_on_an_old_version_changes_nothing(kube: KubeClient) -> None:
    old = await kube.create(CONFIG_MAPS, config(x="1"))
    new = await kube.patch(CONFIG_MAPS, "a", merge_patch_of(old, {"data": {"x": "2", "y": "3"}}))
    uid = old["metadata"]["uid"]
    for write in (
        kube.patch(CONFIG_MAPS, "a", merge_patch_of(old, {"data": {"x": "9"}})),
        kube.patch(
            CONFIG_MAPS, "a", json_patch([{"op": "remove", "path": "/data"}], version=version_of(old))
        ),
        kube.patch(CONFIG_MAPS, "a", json_patch([test("/data/x", "1"), {"op": "remove", "path": "/data/x"}])),
        kube.replace(CONFIG_MAPS, {**old, "data": {}}),
        kube.apply(
            CONFIG_MAPS, {**config(x="9"), "metadata": {"name": "a", "resourceVersion": "1"}}, force=True
        ),
        kube.delete(CONFIG_MAPS, "a", uid=uid, version=version_of(old)),
        kube.delete(CONFIG_MAPS, "a", uid="another"),
    ):
        with pytest.raises(Changed) as found:
            await write
        assert not found.value.maybe_ours
    assert await kube.get(CONFIG_MAPS, "a") == new


async def test_a_patch_whose_tests_hold_is_done_whoever_wrote_elsewhere(kube: KubeClient) -> None:
    await kube.create(CONFIG_MAPS, config(x="1", other="1"))
    await kube.patch(
        CONFIG_MAPS,
        "a",
        json_patch([test("/data/other", "1"), {"op": "add", "path": "/data/other", "value": "2"}]),
    )
    done = await kube.patch(
        CONFIG_MAPS, "a", json_patch([test("/data/x", "1"), {"op": "add", "path": "/data/x", "value": "5"}])
    )
    assert done["data"] == {"x": "5", "other": "2"}


async def test_a_patch_that_is_wrong_is_no_conflict(kube: KubeClient) -> None:
    await kube.create(CONFIG_MAPS, config(x="1"))
    with pytest.raises(Unapplicable):
        await kube.patch(
            CONFIG_MAPS, "a", json_patch([test("/data/x", "1"), {"op": "remove", "path": "/data/nowhere"}])
        )


async def test_fields_of_others_are_taken_by_force_only(kube: KubeClient) -> None:
    async with KubeClient(kube.target, manager="gitops") as other:
        await kube.apply(CONFIG_MAPS, config(ours="1"), force=False)
        await other.apply(CONFIG_MAPS, config(theirs="1"), force=False)
        assert (await kube.get(CONFIG_MAPS, "a"))["data"] == {"ours": "1", "theirs": "1"}
        with pytest.raises(FieldConflict, match=r"\.data\.theirs belongs to gitops") as found:
            await kube.apply(CONFIG_MAPS, config(ours="2", theirs="2"), force=False)
        assert found.value.owners == (FieldOwner("gitops", ".data.theirs"),)
        assert (await kube.get(CONFIG_MAPS, "a"))["data"] == {"ours": "1", "theirs": "1"}
        await kube.apply(CONFIG_MAPS, config(ours="2", theirs="2"), force=True)
        left = await kube.apply(CONFIG_MAPS, config(ours="2"), force=False)  # given up, and nobody else's now
        assert left["data"] == {"ours": "2"}
        managers = {entry["manager"] for entry in left["metadata"]["managedFields"]}
        assert "phoenix-orch" in managers


async def test_the_same_apply_twice_writes_once(kube: KubeClient) -> None:
    once = await kube.apply(CONFIG_MAPS, config(x="1"), force=False)
    assert version_of(await kube.apply(CONFIG_MAPS, config(x="1"), force=False)) == version_of(once)


async def test_a_trial_changes_nothing(kube: KubeClient) -> None:
    tried = await kube.create(CONFIG_MAPS, config(x="1"), dry_run=True)
    assert tried["data"] == {"x": "1"}
    with pytest.raises(NotFound):
        await kube.get(CONFIG_MAPS, "a")
    made = await kube.create(CONFIG_MAPS, config(x="1"))
    await kube.apply(CONFIG_MAPS, config(x="2"), force=True, dry_run=True)
    await kube.patch(CONFIG_MAPS, "a", merge_patch_of(made, {"data": {"x": "2"}}), dry_run=True)
    await kube.replace(CONFIG_MAPS, {**made, "data": {}}, dry_run=True)
    await kube.delete(CONFIG_MAPS, "a", dry_run=True)
    assert await kube.get(CONFIG_MAPS, "a") == made


async def test_a_trial_under_a_taken_name_tells_everything_else_first(
    cluster: Cluster, kube: KubeClient
) -> None:
    """So that who makes an object anew knows that it can, before the old one is gone."""
    good = deployments.shop(kube.namespace)
    bad = {**good, "spec": {**good["spec"], "replicas": -1}}
    await kube.create(DEPLOYMENTS, good)
    with pytest.raises(AlreadyExists):
        await kube.create(DEPLOYMENTS, good, dry_run=True)
    with pytest.raises(Invalid, match=r"spec\.replicas"):
        await kube.create(DEPLOYMENTS, bad, dry_run=True)
    async with KubeClient(load(cluster.service_account(kube.namespace, "nobody"))) as nobody:
        with pytest.raises(Forbidden, match="may not create deployments"):
            await nobody.create(DEPLOYMENTS, good, kube.namespace, dry_run=True)


async def test_a_list_comes_in_pages_of_one_moment(kube: KubeClient) -> None:
    for number in range(25):
        await kube.create(CONFIG_MAPS, config(f"c{number:02}", {"even": str(number % 2 == 0)}))
    sizes: list[int] = []
    versions: set[str] = set()
    names: list[str] = []
    async for page in kube.pages(kube.selection(CONFIG_MAPS), limit=10):
        if not sizes:  # what is made meanwhile belongs to a later moment
            await kube.create(CONFIG_MAPS, config("c99"))
        sizes.append(len(page.items))
        versions.add(page.version)
        names += [found["metadata"]["name"] for found in page.items]
    assert [name for name in names if name != "kube-root-ca.crt"] == [f"c{number:02}" for number in range(25)]
    assert max(sizes) == 10
    assert len(versions) == 1
    assert len((await kube.list(CONFIG_MAPS, labels="even=True")).items) == 13
    assert len((await kube.list(CONFIG_MAPS, fields="metadata.name=c07")).items) == 1
    everywhere = await kube.list(CONFIG_MAPS, ALL_NAMESPACES, fields="metadata.name=c07")
    assert [key_of(found) for found in everywhere.items] == [(kube.namespace, "c07")]
    async for page in kube.pages(kube.selection(CONFIG_MAPS), metadata_only=True):
        assert all("data" not in found for found in page.items)


async def test_a_list_whose_moment_is_no_longer_kept_begins_anew(kube: KubeClient) -> None:
    async with FaultyApiServer(kube.target) as server, KubeClient(server.target) as client:
        for number in range(3):
            await kube.create(CONFIG_MAPS, config(f"c{number}", {"all": "yes"}))
        server.inject(Answer(410, "Expired"), verb="list", skip=1)
        found = await client.list(CONFIG_MAPS, labels="all=yes", limit=2)
        assert [key_of(item).name for item in found.items] == ["c0", "c1", "c2"]
        assert server.count("list") == 4


async def test_custom_resources_and_their_status(cluster: Cluster, kube: KubeClient) -> None:
    cluster.apply(PROBE)
    cluster.kubectl("wait", "--for=condition=Established", "crd/probes.test.phoenix-orch.io", "--timeout=30s")
    with pytest.raises(Invalid, match=r"spec\.weight: Invalid value: 101"):
        await kube.create(PROBES, {"metadata": {"name": "p"}, "spec": {"weight": 101}})
    made = await kube.apply(PROBES, {"metadata": {"name": "p"}, "spec": {"weight": 5}}, force=False)
    changed = await kube.patch(
        PROBES, "p", merge_patch_of(made, {"status": {"x": 1}, "spec": {"weight": 6}}), subresource="status"
    )
    assert changed["spec"] == {"weight": 5}  # by way of the status only the status changes
    assert changed["metadata"]["generation"] == made["metadata"]["generation"]


async def test_invalid_says_every_field(kube: KubeClient) -> None:
    spec = {"replicas": -1, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": []}}}
    with pytest.raises(Invalid) as found:
        await kube.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec})
    assert "spec.replicas: Invalid value: -1" in found.value.message
    assert "spec.template.metadata.labels" in found.value.message
    assert "spec.template.spec.containers: Required value" in found.value.message


async def test_what_is_not_allowed_names_the_rule(cluster: Cluster, kube: KubeClient) -> None:
    async with KubeClient(load(cluster.service_account(kube.namespace, "nobody"))) as nobody:
        with pytest.raises(Forbidden, match=f"may not list pods in namespace {kube.namespace}") as found:
            await nobody.list(PODS, kube.namespace)
        assert 'resources: ["pods"], verbs: ["list"]' in found.value.remedy
        with pytest.raises(Forbidden, match="ClusterRole"):
            await nobody.list(NAMESPACES)


async def test_wrong_credentials_are_told(cluster: Cluster, kube: KubeClient) -> None:
    target = copy.copy(kube.target)
    user = type(target.single.user)(token="wrong")  # type: ignore[misc]
    wrong = type(target)(target.single._replace(user=user), target.namespace)
    async with KubeClient(wrong) as client:
        with pytest.raises(Unauthenticated, match="does not accept"):
            await client.get(CONFIG_MAPS, "a")


async def test_kinds_that_are_not_served(kube: KubeClient) -> None:
    with pytest.raises(NotFound, match=r"does not serve things\.nowhere\.io v1"):
        await kube.list(Resource("nowhere.io", "v1", "things", "Thing"))


async def test_a_namespace_is_said_once(kube: KubeClient) -> None:
    with pytest.raises(Invalid, match="is to go to namespace other"):
        await kube.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "one"}}, "other")
    with pytest.raises(Invalid, match="without saying which version"):
        await kube.replace(CONFIG_MAPS, config())


async def test_many_writers_on_one_object_lose_nothing(kube: KubeClient) -> None:
    """Read, decide, write on the version read, again on Changed: no increment is lost."""
    await kube.create(CONFIG_MAPS, config(count="0"))

    async def add() -> None:
        while True:
            found = await kube.get(CONFIG_MAPS, "a")
            more = {"data": {"count": str(int(found["data"]["count"]) + 1)}}
            try:
                await kube.patch(CONFIG_MAPS, "a", merge_patch_of(found, more))
            except Changed:
                continue
            return

    async with asyncio.TaskGroup() as tasks:
        for _ in range(12):
            tasks.create_task(add())
    assert (await kube.get(CONFIG_MAPS, "a"))["data"] == {"count": "12"}


async def test_kubectl_sees_who_manages_what(cluster: Cluster, kube: KubeClient) -> None:
    await kube.apply(CONFIG_MAPS, config(x="1"), force=False)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": kube.namespace}}
    with pytest.raises(Refused, match=r'conflict with "phoenix-orch": .data.x'):
        cluster.apply({**body, "data": {"x": "2"}})


async def test_a_patch_of_nothing_is_not_found(kube: KubeClient) -> None:
    with pytest.raises(NotFound):
        await kube.patch(CONFIG_MAPS, "nothing", merge_patch({}, version="1"))
