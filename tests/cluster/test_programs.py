"""Where programs come from: given, kept, or built by one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster import given, programs

from phoenix_orch.kernel.errors import Terminal

GO = """#!/bin/sh
case "$1" in env) echo go1.26.8; exit;; esac
echo build >>"$BUILDS"
while [ "$1" != -o ]; do shift; done
echo '#!/bin/sh' >"$2"; chmod +x "$2"
"""


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_without_go_the_error_says_what_to_do(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(empty_cache))
    with pytest.raises(Terminal, match="Go is missing") as caught:
        programs.find()
    assert "KUBEBUILDER_ASSETS" in caught.value.remedy


def test_what_is_given_comes_before_what_is_built(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = program(empty_cache / "assets" / "etcd", "#!/bin/sh\n")
    program(programs.built("etcd"), "#!/bin/sh\n")
    assert programs.find(["etcd"]) == {"etcd": programs.built("etcd")}
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(etcd.parent))
    assert programs.find(["etcd"]) == {"etcd": etcd}


def test_several_that_ask_at_once_build_once(empty_cache: Path) -> None:
    program(empty_cache / "bin" / "go", GO)
    environment = {
        **os.environ,
        "PATH": f"{empty_cache / 'bin'}:{os.environ['PATH']}",
        "BUILDS": str(empty_cache / "builds"),
    }
    words = [sys.executable, "-c", "from tests.cluster import programs; programs.find(['etcd'])"]
    asking = [subprocess.Popen(words, env=environment) for _ in range(3)]
    assert [process.wait(timeout=60) for process in asking] == [0, 0, 0]
    assert (empty_cache / "builds").read_text() == "build\n"


def test_a_compiler_whose_harness_was_killed_is_waited_for(empty_cache: Path) -> None:
    pipe = empty_cache / "go-on"
    os.mkfifo(pipe)
    first_go = f'#!/bin/sh\ncase "$1" in env) exit;; esac\necho begun; read _ <{pipe}\n'
    go = program(empty_cache / "bin" / "go", first_go)
    environment = {
        **os.environ,
        "PATH": f"{go.parent}:{os.environ['PATH']}",
        "BUILDS": str(empty_cache / "builds"),
    }
    words = [sys.executable, "-c", "from tests.cluster import programs; programs.find(['etcd'])"]
    killed = subprocess.Popen(words, env=environment)
    log = programs.built("etcd").with_suffix(".log")
    eventually(lambda: log.exists() and log.read_text() == "begun\n")
    killed.kill()
    killed.wait()
    program(go, GO)
    second = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    assert second.stderr.readline().startswith("waiting for another process")
    pipe.write_text("\n")
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert (empty_cache / "builds").read_text() == "build\n"


def eventually(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_build_that_fails_shows_why_and_leaves_no_program(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(empty_cache / "bin" / "go", "#!/bin/sh\necho no space left; exit 1\n")
    monkeypatch.setenv("PATH", f"{empty_cache / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(Terminal, match="no space left"):
        programs.find(["etcd"])
    assert not programs.built("etcd").exists()


def test_every_staging_module_is_of_the_same_release() -> None:
    text = (programs.MODULE / "go.mod").read_text()
    replaced = {line.split()[-1] for line in text.splitlines() if " => k8s.io/" in line}
    assert replaced == {programs.release().replace("v1.", "v0.")}


def test_the_given_cluster_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = tmp_path / "given"
    kubeconfig.write_text("{}")
    monkeypatch.setenv(given.GIVEN, str(kubeconfig))
    with given.any_cluster(_private(tmp_path)) as cluster:
        assert cluster.kubeconfig == kubeconfig
        folder = cluster.folder
    assert kubeconfig.exists()
    assert not folder.exists()


def test_a_cluster_in_docker_is_deleted_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    program(tmp_path / "bin" / "docker", "#!/bin/sh\n")
    program(tmp_path / "bin" / "kind", f'#!/bin/sh\necho "$1" >>{calls}\n')
    monkeypatch.delenv(given.GIVEN, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with given.any_cluster(_private(tmp_path)):
        assert calls.read_text() == "create\n"
    assert calls.read_text() == "create\ndelete\n"


def _private(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    return root
