"""Real sops opens what we seal, with an age key and without Phoenix; and we open what sops has edited."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest
from ruamel.yaml import YAML

from phoenix_orch.recovery.secret_values import opened, sealed, sealed_bytes

AT = datetime(2026, 11, 28, 10, 30, tzinfo=UTC)
SOPS = Path(sys.executable).with_name("sops")
ODD = [
    "1234",
    "true",
    "null",
    "0x1f",
    "2026-01-01",
    "ö\x07😀",
    "line one\nline two\n",
    "-----BEGIN KEY-----\nx\n",
]
DOCUMENT = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "db", "labels": {"a": "5", "on": "yes"}, "annotations": {"note": "two\nlines\n"}},
    "type": "Opaque",
    "immutable": True,
    "data": {f"k{at}": base64.b64encode(text.encode()).decode() for at, text in enumerate([*ODD, ""])},
    "stringData": {f"k{at}": text for at, text in enumerate(ODD)},
}


@pytest.fixture
def identity(tmp_path: Path) -> pyrage.x25519.Identity:
    made = pyrage.x25519.Identity.generate()
    (tmp_path / "keys.txt").write_text(f"{made}\n")
    return made


def sops(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    env = {"SOPS_AGE_KEY_FILE": str(folder / "keys.txt"), "PATH": os.defpath, "HOME": str(folder)}
    return subprocess.run(
        [SOPS, "--disable-version-check", *words],
        check=False,
        env=env,
        cwd=folder,
        capture_output=True,
        timeout=60,
    )


def test_sops_opens_a_secret(tmp_path, identity):
    other = str(pyrage.x25519.Identity.generate().to_public())
    path = tmp_path / "db.yaml"
    path.write_text(sealed(DOCUMENT, [other, str(identity.to_public())], AT))
    done = sops(tmp_path, "decrypt", str(path))
    assert done.returncode == 0, done.stderr
    assert YAML(typ="safe", pure=True).load(done.stdout.decode()) == DOCUMENT


def test_sops_opens_a_file_of_any_kind(tmp_path, identity):
    content = b"services:\n  - name: web\xff\x00\n"
    path = tmp_path / "phoenix.yaml.sops"
    path.write_bytes(sealed_bytes(content, [str(identity.to_public())], AT))
    done = sops(tmp_path, "decrypt", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == content


@pytest.mark.parametrize(
    ("old", "new"), [("name: db", "name: dx"), ("data:", "data:\n  more: eA=="), ("Opaque", "opaque")]
)
def test_sops_refuses_what_was_changed(tmp_path, identity, old, new):
    path = tmp_path / "db.yaml"
    text = sealed(DOCUMENT, [str(identity.to_public())], AT)
    path.write_text(text.replace(old, new, 1))
    done = sops(tmp_path, "decrypt", str(path))
    assert done.returncode != 0
    assert done.stdout == b""


def test_we_open_what_sops_has_edited(tmp_path, identity):
    path = tmp_path / "db.yaml"
    path.write_text(sealed(DOCUMENT, [str(identity.to_public())], AT))
    done = sops(tmp_path, "set", str(path), '["data"]["k0"]', '"bmV3"')
    assert done.returncode == 0, done.stderr
    assert opened(path.read_text(), [identity]) == {**DOCUMENT, "data": {**DOCUMENT["data"], "k0": "bmV3"}}
