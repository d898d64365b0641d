"""What a node is made of, part by part, without one."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.node import archive, cgroups, debian, images, names

from phoenix_orch.kernel.errors import Terminal

SERVICE = {"spec": {"clusterIP": "10.96.0.7"}}
HEADLESS = {"spec": {"clusterIP": "None"}}
SLICES = {
    "items": [
        {
            "endpoints": [
                {"addresses": ["10.244.0.2"], "conditions": {"ready": True}, "hostname": "db-0"},
                {"addresses": ["10.244.0.3"], "conditions": {"ready": False}, "hostname": "db-1"},
            ]
        }
    ]
}
OBJECTS: dict[str, dict[str, Any]] = {
    "/api/v1/namespaces/a/services/web": SERVICE,
    "/api/v1/namespaces/a/services/db": HEADLESS,
    "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices"
    "?labelSelector=kubernetes.io%2Fservice-name%3Ddb": SLICES,
}


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 77, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


def read(reply: bytes) -> tuple[int, list[str]]:
    """Status and addresses of a reply with fixed-size records."""
    number, flags, _, count, *_ = struct.unpack_from("!6H", reply)
    assert number == 77
    assert flags & 0x8000
    records = [reply[len(reply) - 4 - 16 * index :][:4] for index in reversed(range(count))]
    return flags & 15, [".".join(map(str, record)) for record in records]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.a.svc.cluster.local", 1, (0, ["10.96.0.7"])),
        ("WEB.A.SVC.CLUSTER.LOCAL", 1, (0, ["10.96.0.7"])),
        ("web.a.svc.cluster.local", 28, (0, [])),  # it exists, without an address of version 6
        ("db.a.svc.cluster.local", 1, (0, ["10.244.0.2"])),  # the other one is not ready
        ("db-0.db.a.svc.cluster.local", 1, (0, ["10.244.0.2"])),
        ("db-1.db.a.svc.cluster.local", 1, (3, [])),
        ("pod.web.a.svc.cluster.local", 1, (3, [])),  # not headless
        ("none.a.svc.cluster.local", 1, (3, [])),
        ("www.example.com", 1, (3, [])),
    ],
)
def test_names_of_services_and_no_others_are_known(
    name: str, kind: int, expected: tuple[int, list[str]]
) -> None:
    assert read(names.answer(OBJECTS.get, query(name, kind))) == expected


def test_a_name_is_not_said_to_be_missing_when_nobody_can_know() -> None:
    def away(path: str) -> dict[str, Any] | None:
        raise ConnectionRefusedError(path)

    assert read(names.answer(away, query("web.a.svc.cluster.local"))) == (2, [])


@pytest.mark.parametrize("garbage", [b"", b"\0" * 5, query("web.a")[:-6]])
def test_garbage_gets_no_answer(garbage: bytes) -> None:
    with pytest.raises((ValueError, IndexError, struct.error)):
        names.answer(OBJECTS.get, garbage)


def test_images_of_one_archive_share_their_files_and_differ_in_their_settings(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    os.utime(program, (1000, 1000))
    wanted = [archive.Image(f"phoenix.test/x:{tag}", ["/bin/x"], {"TAG": tag}) for tag in ("a", "b")]
    archive.write(tmp_path / "archive.tar", {"/bin/x": program, "/etc/y": b"text"}, wanted)
    with tarfile.open(tmp_path / "archive.tar") as packed:
        content = {name: packed.extractfile(name).read() for name in packed.getnames()}  # type: ignore[union-attr]
    blobs = {f"sha256:{Path(name).name}": blob for name, blob in content.items() if "blobs/" in name}
    assert all(digest == f"sha256:{hashlib.sha256(blob).hexdigest()}" for digest, blob in blobs.items())
    index = json.loads(content["index.json"])["manifests"]
    assert [one["annotations"]["io.containerd.image.name"] for one in index] == [
        "phoenix.test/x:a",
        "phoenix.test/x:b",
    ]
    manifests = [json.loads(blobs[one["digest"]]) for one in index]
    (layer,) = {one["layers"][0]["digest"] for one in manifests}
    configs = [json.loads(blobs[one["config"]["digest"]]) for one in manifests]
    assert [one["config"]["Env"] for one in configs] == [["TAG=a"], ["TAG=b"]]
    assert {one["rootfs"]["diff_ids"][0] for one in configs} == {layer}
    (tmp_path / "layer.tar").write_bytes(blobs[layer])
    with tarfile.open(tmp_path / "layer.tar") as packed:
        entries = {entry.name: entry for entry in packed}
    assert (entries["bin/x"].mode, entries["bin/x"].mtime, entries["bin/x"].uid) == (0o755, 1000, 0)
    assert (entries["etc"].isdir(), entries["tmp"].mode) == (True, 0o1777)


def test_an_image_has_what_its_distributions_require_and_no_tests() -> None:
    files = images.python_files("httpx")
    assert {"/app/httpx/__init__.py", "/app/h11/__init__.py", "/app/certifi/cacert.pem"} <= set(files)
    assert "/app/phoenix_orch/demo/service.py" in files
    assert not [name for name in files if "/site-packages/" in name or "/app/pytest" in name]
    assert [name for name in files if "ld-linux" in name or "ld-musl" in name]


def test_version_2_lets_every_controller_into_the_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    monkeypatch.setattr(cgroups, "unified", lambda: True)
    monkeypatch.setattr(cgroups, "_hierarchies", lambda: [tmp_path])
    cgroups.make("phoenix-1")
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpuset +cpu +memory +pids"
    cgroups.remove("phoenix-1")
    assert not (tmp_path / "phoenix-1").exists()


def test_the_programs_of_the_machine_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, folder = tmp_path / "own", tmp_path / "bin"
    own.mkdir()
    folder.mkdir()
    for name in debian.PACKAGES:
        (own / name).write_text("#!/bin/sh\n")
        (own / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")
    debian.provide(folder)
    assert {path.name: path.resolve().parent for path in folder.iterdir()} == dict.fromkeys(
        debian.PACKAGES, own
    )


def test_without_packages_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(debian, "_SYSTEM_PLACES", str(tmp_path))
    with pytest.raises(Terminal, match="which has no apt") as caught:
        debian.prepare()
    assert caught.value.remedy.startswith("apt-get install iproute2 nftables runc")
