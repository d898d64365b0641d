"""Configuration backed up from a real API server and put back: lost, changed, immutable, and not ours."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyrage  # type: ignore[import-untyped]
import pytest
from tests.cluster.kubectl import Cluster, Refused

from phoenix_orch.cli.main import run
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.errors import Forbidden
from phoenix_orch.kube.resources import CONFIG_MAPS, DEPLOYMENTS, SECRETS, SERVICES, Object
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.restore import config_apply, config_wished
from phoenix_orch.recovery.restore.config_plan import Act, Name, Plan, plan
from phoenix_orch.recovery.sources.config import REPOSITORY, ConfigSource
from phoenix_orch.recovery.sources.config_cluster import ClusterItems
from phoenix_orch.recovery.sources.config_objects import LAST_APPLIED, PENDING, RESTARTED_AT

ROOT = Path(__file__).parents[2]
CANARY = "canary-password-4711"


class Shop:
    """A namespace with a Deployment that reads a ConfigMap and a Secret, and its backup."""

    def __init__(self, cluster: Cluster, namespace: str, state: Path) -> None:
        self.cluster, self.namespace, self.state = cluster, namespace, state
        self.identity = pyrage.x25519.Identity.generate()
        self.bundle: bytes | None = None

    def connect(self, manager: str = config_apply.MANAGER) -> KubeClient:
        return KubeClient(load(self.cluster.kubeconfig, namespace=self.namespace), manager=manager)

    def source(self) -> ConfigSource:
        @contextlib.asynccontextmanager
        async def connected() -> AsyncIterator[KubeClient]:
            async with self.connect() as client:
                yield client

        return ConfigSource(
            self.state,
            ClusterItems(connected, [self.namespace]),
            [str(self.identity.to_public())],
            last_bundle=lambda: contextlib.nullcontext(io.BytesIO(self.bundle)) if self.bundle else None,
        )

    async def back_up(self) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            with self.source().capture() as capture:
                self.bundle = capture.read()
                return capture.facts().content

        return await asyncio.to_thread(run)

    async def plan(self, client: KubeClient) -> Plan:
        with ConfigRepository.open(self.state / REPOSITORY) as repository:
            commit = repository.head().decode()
            wished = config_wished.wished(repository, commit, [self.identity], [self.namespace])
        return plan(wished, await config_apply.live(client, [self.namespace]), source=commit)

    async def restore(self, client: KubeClient) -> tuple[Plan, list[tuple[str, str, str]]]:
        found, journal = await self.plan(client), list[tuple[str, str, str]]()
        await config_apply.tried(client, found)
        await config_apply.carry_out(
            client, found, lambda act, name, how: journal.append((act, name.name, how)), within=0
        )
        return found, journal


def of_deployment(name: str, **container: Any) -> Object:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "web", "image": "web:1", **container}]},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def shop(cluster: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[tuple[Shop, KubeClient]]:
    made = Shop(cluster, namespace, tmp_path / "state")
    password = base64.b64encode(CANARY.encode()).decode()
    async with made.connect("somebody") as somebody:
        await somebody.create(CONFIG_MAPS, {"metadata": {"name": "web"}, "data": {"a.conf": "x=1\ny=2\n"}})
        await somebody.create(
            CONFIG_MAPS, {"metadata": {"name": "fixed"}, "data": {"a": "1"}, "immutable": True}
        )
        await somebody.create(SECRETS, {"metadata": {"name": "db"}, "data": {"password": password}})
        await somebody.create(SERVICES, {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})
        await somebody.create(DEPLOYMENTS, of_deployment("web", envFrom=[{"configMapRef": {"name": "web"}}]))
        await somebody.create(DEPLOYMENTS, of_deployment("db", envFrom=[{"secretRef": {"name": "db"}}]))
        await somebody.create(DEPLOYMENTS, of_deployment("other"))
    async with made.connect() as client:
        yield made, client


def data_of(found: Object) -> Any:
    return found.get("data")


async def restarted(client: KubeClient) -> set[str]:
    page = await client.list(DEPLOYMENTS)
    return {
        one["metadata"]["name"]
        for one in page.items
        if RESTARTED_AT in (one["spec"]["template"]["metadata"].get("annotations") or {})
    }


async def test_right_after_a_backup_there_is_nothing_to_restore(shop: tuple[Shop, KubeClient]) -> None:
    made, client = shop
    content = await made.back_up()
    assert content["kinds"] == {"ConfigMap": 2, "Deployment": 3, "Secret": 1, "Service": 1}
    found = await made.plan(client)
    assert (found.steps, found.rolled, found.unchanged) == ((), (), 7)
    assert not (await made.back_up())["changed"]
    assert CANARY.encode() not in (made.bundle or b"")


async def test_lost_and_changed_configuration_comes_back_and_its_readers_are_rolled(
    shop: tuple[Shop, KubeClient],
) -> None:
    made, client = shop
    await made.back_up()
    before = {one["metadata"]["name"]: one for one in (await client.list(CONFIG_MAPS)).items}
    secret = await client.get(SECRETS, "db")
    made.cluster.kubectl("-n", made.namespace, "delete", "secret", "db")
    made.cluster.kubectl("-n", made.namespace, "delete", "service", "web")
    made.cluster.kubectl(
        "-n", made.namespace, "patch", "configmap", "web", "-p", '{"data": {"a.conf": "broken", "more": "1"}}'
    )
    made.cluster.kubectl("-n", made.namespace, "delete", "configmap", "fixed")
    made.cluster.kubectl("-n", made.namespace, "create", "configmap", "fixed", "--from-literal=a=2")
    made.cluster.kubectl("-n", made.namespace, "patch", "configmap", "fixed", "-p", '{"immutable": true}')
    made.cluster.kubectl("-n", made.namespace, "create", "configmap", "mine", "--from-literal=a=1")

    done, journal = await made.restore(client)
    assert [(step.act, step.name.kind, step.name.name) for step in done.steps] == [
        (Act.CREATE, "Secret", "db"),
        (Act.REPLACE, "ConfigMap", "fixed"),
        (Act.CHANGE, "ConfigMap", "web"),
        (Act.CREATE, "Service", "web"),
        (Act.LEAVE, "ConfigMap", "mine"),
    ]
    assert done.rolled == (
        Name(made.namespace, "Deployment", "db"),
        Name(made.namespace, "Deployment", "web"),
    )
    assert [how for _, _, how in journal if how not in ("begin", "done")] == []
    assert data_of(await client.get(SECRETS, "db")) == data_of(secret)
    for name in ("web", "fixed"):
        found = await client.get(CONFIG_MAPS, name)
        assert data_of(found) == data_of(before[name])
        assert found.get("immutable") == before[name].get("immutable")
    assert data_of(await client.get(CONFIG_MAPS, "mine")) == {"a": "1"}
    assert await restarted(client) == {"web", "db"}
    again = await made.plan(client)
    assert (again.acts, again.rolled) == ((), ())
    await made.back_up()


async def test_what_died_before_the_roll_is_rolled_by_the_next_one(shop: tuple[Shop, KubeClient]) -> None:
    """Ended between any two steps; the one after it comes to the same end."""
    made, client = shop
    await made.back_up()
    wanted = data_of(await client.get(CONFIG_MAPS, "web"))

    class Killed(Exception):
        pass

    for dies in range(12):
        made.cluster.kubectl(
            "-n", made.namespace, "patch", "configmap", "web", "-p", '{"data": {"a.conf": "broken"}}'
        )
        made.cluster.kubectl("-n", made.namespace, "delete", "secret", "db", "--ignore-not-found")
        left = dies

        def journal(act: str, name: Name, how: str) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1

        with contextlib.suppress(Killed):
            await config_apply.carry_out(client, await made.plan(client), journal, within=0)
        before = {
            one["metadata"]["name"]: one["metadata"]["generation"]
            for one in (await client.list(DEPLOYMENTS)).items
        }
        await asyncio.sleep(1.1 if left else 0)  # restarts are told apart by the second
        await made.restore(client)
        assert data_of(await client.get(CONFIG_MAPS, "web")) == wanted
        assert data_of(await client.get(SECRETS, "db"))
        again = await made.plan(client)
        assert (again.acts, again.rolled) == ((), ())
        assert await restarted(client) == {"web", "db"}
        for one in (await client.list(DEPLOYMENTS)).items:
            assert PENDING not in (one["metadata"].get("annotations") or {})
            if left == 0 and one["metadata"]["name"] == "other":
                assert one["metadata"]["generation"] == before["other"]


async def test_what_the_cluster_refuses_is_told_before_anything_is_done(
    shop: tuple[Shop, KubeClient],
) -> None:
    made, client = shop
    await made.back_up()
    bad = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bad", "namespace": made.namespace},
        "data": {"no name of a value": base64.b64encode(CANARY.encode()).decode()},
    }
    good = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "good", "namespace": made.namespace},
        "data": {"a": "1"},
    }
    found = plan([bad, good], await config_apply.live(client, [made.namespace]))
    with pytest.raises(Invalid, match="refuses 1 of 2 steps") as caught:
        await config_apply.tried(client, found)
    assert CANARY not in str(caught.value)
    assert base64.b64encode(CANARY.encode()).decode() not in str(caught.value)
    assert "good" not in {one["metadata"]["name"] for one in (await client.list(CONFIG_MAPS)).items}


async def test_what_the_cluster_would_refuse_is_in_the_plan(
    shop: tuple[Shop, KubeClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real API server is asked about each step, and writes nothing; a right that is not there is told
    apart from what nobody could do."""
    made, client = shop
    made.state = tmp_path / "configurations"
    await made.back_up()
    (tmp_path / "identity.txt").write_text(f"{made.identity}\n")
    made.cluster.kubectl("-n", made.namespace, "delete", "secret/db", "configmap/web", "deployment/other")
    before = await _versions(client)

    async def planned(user: Path, status: int) -> tuple[dict[str, Any], str]:
        words = ["restore", "plan", "config", "--kubeconfig", str(user), "--data-dir", str(tmp_path)]
        words += ["--identity", str(tmp_path / "identity.txt")]
        said = []
        for more in (["-o", "json"], []):
            assert await asyncio.to_thread(run, [*words, *more]) == status
            said.append(capsys.readouterr().out)
        assert CANARY not in "".join(said)
        return json.loads(said[0]), said[1]

    found, said = await planned(made.cluster.kubeconfig, 0)
    assert (found["refused"], found["unasked"]) == ({}, {})
    assert "do it: phoenix restore run config" in said

    # a quota, as an administrator sets one after the backup, has room for neither; a policy refuses one kind
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "full", "namespace": made.namespace},
        "spec": {"hard": {"count/secrets": "0", "count/configmaps": "0"}},
    }
    made.cluster.apply(quota)
    async with asyncio.timeout(60):
        while not (await _quota(made)).get("status", {}).get("used"):
            await asyncio.sleep(0.1)
    found, said = await planned(made.cluster.kubeconfig, 1)
    assert set(found["refused"]) == {f"Secret {made.namespace}/db", f"ConfigMap {made.namespace}/web"}
    assert all("exceeded quota" in why for why in found["refused"].values())
    assert f"refused: Secret {made.namespace}/db: " in said
    assert "do it:" not in said
    assert found["hash"]
    words = ["restore", "run", "config", "--confirm", found["hash"]]
    words += ["--kubeconfig", str(made.cluster.kubeconfig)]
    words += ["--data-dir", str(tmp_path), "--identity", str(tmp_path / "identity.txt")]
    assert await asyncio.to_thread(run, words) != 0
    assert "refuses 2 of 3 steps" in capsys.readouterr().err
    made.cluster.kubectl("-n", made.namespace, "delete", "resourcequota", "full")

    # who may only look
    viewer = made.cluster.service_account(made.namespace, "viewer")
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
    metadata = {"name": "viewer", "namespace": made.namespace}
    subject = {"kind": "ServiceAccount", **metadata}
    api = "rbac.authorization.k8s.io"
    role = {"apiGroup": api, "kind": "Role", "name": "viewer"}
    made.cluster.apply(
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [subject],
        },
    )
    found, said = await planned(viewer, 0)
    assert (found["refused"], len(found["unasked"])) == ({}, 3)
    assert "not asked: " in said
    assert "may not patch secrets" in said
    assert await _versions(client) == before


async def _quota(shop: Shop) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(
        shop.cluster.get, "resourcequota", "full", "-n", shop.namespace
    )
    return found


async def _versions(client: KubeClient) -> dict[str, str]:
    """Of every object of a restore."""
    kinds = (CONFIG_MAPS, SECRETS, SERVICES, DEPLOYMENTS)
    return {
        f"{kind.kind} {one['metadata']['name']}": str(
            one["metadata"].get("generation") or one["metadata"]["resourceVersion"]
        )
        for kind in kinds
        for one in (await client.list(kind)).items
    }


async def test_the_guides_command_applies_what_is_rendered(
    shop: tuple[Shop, KubeClient], tmp_path: Path
) -> None:
    made, client = shop
    await made.back_up()
    secret = data_of(await client.get(SECRETS, "db"))
    made.cluster.kubectl("-n", made.namespace, "delete", "secret/db", "configmap/web", "deployment/web")
    with ConfigRepository.open(made.state / REPOSITORY) as repository:
        head = repository.head().decode()
        objects = config_wished.wished(repository, head, [made.identity], [made.namespace])
    path = tmp_path / "configs.yaml"
    config_wished.write(path, config_wished.rendered(objects, ["put back by kubectl apply -f"]))
    assert path.stat().st_mode & 0o777 == 0o600
    made.cluster.kubectl("apply", "-f", str(path))
    assert data_of(await client.get(SECRETS, "db")) == secret
    applied = (await client.get(DEPLOYMENTS, "web"))["metadata"]
    assert LAST_APPLIED in applied["annotations"]
    assert (await made.plan(client)).acts == ()


async def test_more_than_a_page_is_backed_up(shop: tuple[Shop, KubeClient]) -> None:
    made, client = shop
    await asyncio.gather(
        *(
            client.create(
                CONFIG_MAPS, {"metadata": {"name": f"many-{number:03}"}, "data": {"a": str(number)}}
            )
            for number in range(150)
        )
    )
    assert (await made.back_up())["kinds"]["ConfigMap"] == 152


async def test_at_a_point_in_time(shop: tuple[Shop, KubeClient]) -> None:
    made, client = shop
    await made.back_up()
    between = datetime.now(UTC)
    await asyncio.sleep(1.1)  # commits are told apart by the second
    made.cluster.kubectl("-n", made.namespace, "patch", "configmap", "web", "-p", '{"data": {"b": "2"}}')
    await made.back_up()
    with ConfigRepository.open(made.state / REPOSITORY) as repository:
        commit = repository.as_of(between).commit
        wished = config_wished.wished(repository, commit, [made.identity])
    found = plan(wished, await config_apply.live(client, [made.namespace]), source=commit)
    assert [(step.name.name, step.fields) for step in found.acts] == [("web", ("data.b",))]


async def test_the_role_of_the_manifests_is_enough_for_a_backup_and_for_nothing_else(
    cluster: Cluster, shop: tuple[Shop, KubeClient]
) -> None:
    made, _ = shop
    user = cluster.service_account(made.namespace, "backup")
    with pytest.raises(Forbidden, match="may not list serviceaccounts"):
        await Shop.back_up(_as(made, user))
    text = (ROOT / "k8s/backup/config-rights.yaml").read_text()
    cluster.kubectl(
        "-n",
        made.namespace,
        "apply",
        "-f",
        "-",
        stdin=text.replace("name: master-orchestrator", "name: backup"),
    )
    # a binding with subjects of its own namespace; the base's overlay sets it
    cluster.kubectl(
        *("-n", made.namespace, "patch", "rolebinding", "phoenix-backup-config", "--type=json", "-p"),
        f'[{{"op": "add", "path": "/subjects/0/namespace", "value": "{made.namespace}"}}]',
    )
    content = await _as(made, user).back_up()
    assert content["kinds"]["Secret"] == 1
    for verb, what in (
        ("get", "secrets"),
        ("watch", "secrets"),
        ("patch", "configmaps"),
        ("delete", "secrets"),
    ):
        with pytest.raises(Refused):
            cluster.kubectl("auth", "can-i", verb, what, "-n", made.namespace, user=user)


def _as(shop: Shop, user: Path) -> Shop:
    """The same shop for somebody else."""
    other = Shop(shop.cluster, shop.namespace, shop.state)
    other.identity = shop.identity
    other.cluster = Cluster(user, shop.cluster.folder)
    return other


async def test_a_person_plans_confirms_and_runs(
    shop: tuple[Shop, KubeClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words of docs/how-to/config-recovery.md."""
    made, client = shop
    made.state = tmp_path / "configurations"
    await made.back_up()
    secret = data_of(await client.get(SECRETS, "db"))
    (tmp_path / "identity.txt").write_text(f"{made.identity}\n")
    made.cluster.kubectl("-n", made.namespace, "delete", "secret", "db")
    common = ["--kubeconfig", str(made.cluster.kubeconfig), "--data-dir", str(tmp_path)]
    common += ["--identity", str(tmp_path / "identity.txt")]

    def phoenix(*words: str) -> tuple[int, str]:
        status = run(["restore", *words, *common])
        said = capsys.readouterr()
        assert CANARY not in said.out + said.err
        return status, said.out + said.err

    status, said = await asyncio.to_thread(phoenix, "plan", "config")
    assert status == 0
    assert f"create  Secret {made.namespace}/db" in said
    next_words = said[said.index("do it: phoenix restore ") :].split()[4:-2]
    assert next_words[:2] == ["run", "config"]
    wrong = [*next_words[:-1], "000000000000"]
    status, said = await asyncio.to_thread(phoenix, *wrong)
    assert status == 1
    assert "was confirmed" in said
    status, said = await asyncio.to_thread(phoenix, *next_words, "--dry-run")
    assert (status, said.splitlines()[-1]) == (0, "the cluster has tried all of it, and nothing was changed")
    assert not (tmp_path / "configurations/restores.jsonl").exists()
    status, said = await asyncio.to_thread(phoenix, *next_words, "--within", "0s")
    assert (status, said.strip()) == (0, "put back 1 object, rolled 1 workload")
    assert data_of(await client.get(SECRETS, "db")) == secret
    journal = [
        json.loads(line) for line in (tmp_path / "configurations/restores.jsonl").read_text().splitlines()
    ]
    assert [(one["act"], one["how"]) for one in journal] == [
        (act, how) for act in ("mark", "create", "roll") for how in ("begin", "done")
    ]
    status, said = await asyncio.to_thread(phoenix, "plan", "config")
    assert "the cluster has all of it" in said
