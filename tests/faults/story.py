"""A whole Phoenix under load, to be hurt: started as users start it, watched from outside.

Everything here looks at processes, files, the API and the data plane; nothing of Phoenix runs inside
the test but its client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil
from tests.faults.story_users import Users

from phoenix_orch.client import Client
from phoenix_orch.demo.load import ANSWER_SECONDS
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import RESTING, Event, Release, State
from phoenix_orch.rollout.transitions import TRANSITIONS
from phoenix_orch.testing.loopback import quiet_port
from phoenix_orch.traffic.router import TrafficSeen, TrafficState
from phoenix_orch.traffic.state_file import decode
from phoenix_orch.traffic.traefik_api import UNSEEN, running, seen

T = TypeVar("T")

NAME = "web"
SPEED = 30.0
RATE = 200.0
"""Requests per second: about 20 to the canary in each window at the first weight."""
PATIENCE = 60.0
"""Seconds after which a state that does not come is a fault of Phoenix, not of a busy machine."""
_LOOK = 0.01
_STATES = {state.value for state in State}
_ROOT = Path(__file__).resolve().parents[2]
PHASES = tuple(
    {"name": name, "weight": weight, "duration": "30s", "limits": {"errorRate": "60%", "latencyP95": "2s"}}
    for name, weight in (("first", 20), ("second", 60), ("full", 100))
)
"""A walk of three seconds. The latency limit is out of reach: a busy machine is slow, not bad. The error
limit is high because windows are short: attempts at an instance that died are errors of its revision
until the router knows, and while one of two is dead that may be half of them."""


def configuration(
    port: int,
    *,
    rollout: Mapping[str, Any] | None = None,
    policy: Mapping[str, Any] | None = None,
    service: Mapping[str, Any] | None = None,
    services: Sequence[str] = (NAME,),
) -> dict[str, Any]:
    """phoenix.yaml with a quick walk; every service but the first is reached by a path of its name."""
    command = [sys.executable, "-P", "-m", "phoenix_orch.demo.service"]
    described = {
        "version": "1",
        "command": [*command, "--port", "{port}", "--version", "{version}"],
        "replicas": 2,
        "drain": "3s",
        **(service or {}),
    }
    walk = {
        "phases": list(PHASES),
        "evidence": {"interval": "5s", "window": "15s"},
        "verify": {"window": "10s"},
        "policy": {"bake": "30s", "progressDeadline": "30m", **(policy or {})},
        **(rollout or {}),
    }
    return {
        "router": {"listen": f"127.0.0.1:{port}"},
        "services": dict.fromkeys(services, described),
        "routes": {
            name: {"service": name, **({} if number == 0 else {"pathPrefix": f"/{name}"})}
            for number, name in enumerate(services)
        },
        "rollouts": dict.fromkeys(services, walk),
    }


def until(what: str, condition: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """Look again and again until `condition` gives something true; what it gave."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(_LOOK)
    return found


@dataclass(frozen=True, slots=True)
class Ending:
    """How a release ended, in words that are the same for every run that ends alike."""

    state: str
    stable: str
    """Version label of the stable revision."""
    outcome: str
    weight: int
    seen: int | None
    latched: bool
    """The released revision may not carry traffic."""
    instances: tuple[tuple[str, int], ...]
    """Ready instances by version."""


@dataclass
class Story:
    """One Phoenix on a directory of its own. Use it in `with`; it ends everything and looks for rests."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `configuration`."""
    speed: float = SPEED
    rate: float = RATE
    patience: float = ANSWER_SECONDS
    """Seconds after which users give up on a request."""
    wrapper: tuple[str, ...] = ()
    """Put before the command of Phoenix."""
    namespace: bool = False
    """The wrapper gives Phoenix a file system of its own; look into it from outside."""
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="story-")))
    port: int = field(default_factory=quiet_port)
    pids: dict[int, float] = field(default_factory=dict)
    """Every process that was ever part of the story, with its start."""
    _versions: int = 1
    _others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    # -- life ----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.data = self.directory / "d"
        self.file = self.directory / "phoenix.yaml"
        self.file.write_text(json.dumps(configuration(self.port, **self.settings)), encoding="utf-8")
        try:
            self.phoenix = self.start()
            self.outside = self._look_inside() if self.namespace else self.data
            self.client = self._stack.enter_context(Client(self.outside, timeout=5.0))
            self.until_state(State.IDLE)
            until("the router serves", lambda: self.seen().weight == 0)  # 503 until then, and rightly so
            self.users = self._stack.enter_context(Users(self.port, self.rate, self.patience))
            until("the first answer", lambda: self.users.account.answered)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._stack.close()
            for process in [self.phoenix, *self._others]:
                end(process)
            if kind is None and not self.namespace:
                subprocess.run(self.command("down", "--data-dir", str(self.data)), timeout=60, check=False)
            if kind is None:
                assert self.left() == [], f"left behind: {self.left()}"
        finally:
            for process in self.left():
                with contextlib.suppress(psutil.Error):
                    process.kill()
            shutil.rmtree(self.directory, ignore_errors=True)

    def _look_inside(self) -> Path:
        """The data directory as Phoenix sees it."""
        path = Path(f"/proc/{self.phoenix.pid}/root{self.data}")
        until("the file system is mounted", (path / "phoenix.lock").exists)
        return path

    def command(self, *words: str) -> list[str]:
        """A command line of `phoenix`."""
        return [sys.executable, "-P", "-m", "phoenix_orch.cli.main", *words]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `phoenix up`, or what `words` say, without waiting."""
        chosen = words or ("up", "-f", str(self.file))
        line = [
            *self.wrapper,
            *self.command(*chosen, "--data-dir", str(self.data), "--speed", f"{self.speed:g}"),
        ]
        with (self.directory / "phoenix.log").open("ab") as log:
            process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=_ROOT, start_new_session=True
            )
        self._others.append(process)
        return process

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Let the story end a process that was started elsewhere."""
        self._others.append(process)

    def restart(self) -> float:
        """Start Phoenix again after it was killed; seconds until its API answers."""
        begun = time.monotonic()
        self.phoenix = self.start()
        until("Phoenix is back", lambda: self.answers() or self._ended())
        return time.monotonic() - begun

    def _ended(self) -> bool:
        assert self.phoenix.poll() is None, f"Phoenix ended with {self.phoenix.returncode}\n{self.log()}"
        return False

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.phoenix.send_signal(signal.SIGTERM)
        return self.phoenix.wait(60)

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `phoenix` on this directory."""
        return subprocess.run(
            self.command(*words, "--data-dir", str(self.data)),
            capture_output=True,
            text=True,
            timeout=60,
            cwd=_ROOT,
            check=False,
        )

    def log(self, lines: int = 30) -> str:
        text = (self.directory / "phoenix.log").read_text("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    # -- looking -------------------------------------------------------------------------------------

    def answers(self) -> bool:
        try:
            return bool(self.client.health())
        except PhoenixError:
            return False

    def view(self) -> RolloutView | None:
        """The rollout as the API shows it; None while it cannot be asked."""
        try:
            return self.client.rollout(NAME)
        except PhoenixError:
            return None

    def until_view(
        self, what: str, condition: Callable[[RolloutView], bool], patience: float = PATIENCE
    ) -> RolloutView:
        def look() -> RolloutView | None:
            view = self.view()
            return view if view is not None and condition(view) else None

        try:
            return until(what, look, patience)
        except AssertionError as error:
            view = self.view()
            status = view.rollout.status.model_dump(mode="json") if view else None
            raise AssertionError(f"{error}\n{status}\n{self.log()}") from None

    def until_state(self, *states: State) -> RolloutView:
        names = ", ".join(states)
        return self.until_view(names, lambda view: view.rollout.status.state in states)

    def seen(self) -> TrafficSeen:
        """What the data plane does, asked of the router itself."""
        info = running(self.outside / "router")
        return asyncio.run(seen(info.admin, (NAME,)))[NAME] if info is not None else UNSEEN

    def traffic(self) -> TrafficState:
        """What the traffic object says."""
        path = self.outside / "router" / "dynamic" / "routes.yaml"
        return decode(path.read_text("utf-8")).table.routes[NAME].state

    def events(self) -> list[Event]:
        """Oldest first."""
        found = until("the events", lambda: self._asked(lambda: self.client.events(NAME, limit=10_000)))
        return sorted(found, key=lambda event: event.at)

    def release(self, number: int) -> list[Release]:
        """The lines of the history of one release."""
        found = self._asked(lambda: self.client.history(NAME, limit=1000)) or []
        return [release for release in found if release.number == number]

    def _asked(self, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except PhoenixError:
            return None

    # -- releasing -----------------------------------------------------------------------------------

    def begin(self, fault: str = "", version: str | None = None) -> str:
        """Start a release of a version nobody has seen before; its label."""
        if version is None:
            self._versions += 1
            version = str(self._versions)
        before = self.client.rollout(NAME).rollout.status.release
        self.client.start(NAME, version=version, env={"SHOP_FAULT": fault})
        self.until_view("the release begins", lambda view: view.rollout.status.release > before)
        return version

    def ending(self, version: str) -> Ending:
        """Wait until the release of `version` is over and the world is as it says."""

        def over(view: RolloutView) -> bool:
            status, workload = view.rollout.status, view.workload
            if status.state not in RESTING or workload is None or view.seen is None or view.traffic is None:
                return False
            return (
                view.versions.get(view.rollout.target) == version
                and len(workload.instances)
                == view.rollout.replicas
                == len(workload.ready(status.stable or ""))
                and len(view.traffic.stable.backends) == view.rollout.replicas
                and view.seen.weight is not None
                and view.seen.backends == frozenset(b.url for b in view.traffic.stable.backends)
            )

        view = self.until_view(f"version {version} ends", over)
        status, traffic, workload = view.rollout.status, view.traffic, view.workload
        assert traffic is not None
        assert workload is not None
        assert view.seen is not None
        assert traffic.stable.revision == status.stable
        released = next(r for r, label in view.versions.items() if label == version)
        lines = self.release(status.release)
        assert len(lines) == 1, f"{len(lines)} lines in the history for one release"
        counts: dict[str, int] = {}
        for instance in workload.instances:
            label = view.versions[instance.revision]
            counts[label] = counts.get(label, 0) + 1
        label = view.versions[status.stable or ""]
        return Ending(
            state=status.state.value,
            stable="released" if label == version else "before",
            outcome=lines[0].outcome.value,
            weight=traffic.weight,
            seen=view.seen.weight,
            latched=released in traffic.aborted,
            instances=tuple(sorted(("released" if k == version else "before", n) for k, n in counts.items())),
        )

    # -- hurting -------------------------------------------------------------------------------------

    def router_pid(self) -> int:
        info = running(self.outside / "router")
        assert info is not None, "no router runs"
        return info.pid

    def valkey_pid(self) -> int:
        return int(json.loads((self.outside / "valkey" / "valkey.json").read_bytes())["process"]["pid"])

    def replica_pid(self, revision: str | None) -> int:
        """An instance of one revision that is ready."""
        path = self.outside / "services" / NAME / "instances.json"
        state = json.loads(path.read_bytes())["state"]
        return next(
            int(one["pid"])
            for one in state["instances"]
            if one["revision"] == revision and one["state"] == "ready" and one["pid"]
        )

    def kill(self, pid: int) -> float:
        """kill -9; the moment it was done."""
        self.remember()
        at = time.time()
        os.kill(pid, signal.SIGKILL)
        if pid == self.phoenix.pid:
            self.phoenix.wait(10)
        return at

    # -- rests ---------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Note every process of this directory, to ask later whether it has gone."""
        for process in processes_of(self.data):
            with contextlib.suppress(psutil.Error):
                self.pids[process.pid] = process.create_time()

    def left(self) -> list[psutil.Process]:
        """Processes of this directory that run, those seen earlier included."""
        found = {process.pid: process for process in processes_of(self.data)}
        for pid, started in self.pids.items():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE:
                    found[pid] = process
        return list(found.values())

    def until_nobody_is_lost(self) -> None:
        """Every process of the directory is known to somebody: one router, one store, the instances."""

        def strangers() -> list[psutil.Process]:
            path = self.outside / "services" / NAME / "instances.json"
            known = {one["pid"] for one in json.loads(path.read_bytes())["state"]["instances"]}
            known |= {process.pid for process in self._others}
            info = running(self.outside / "router")
            known |= {info.pid if info else None, self.valkey_pid()}
            return [process for process in processes_of(self.data) if process.pid not in known]

        until(f"nobody is lost, but {strangers()}", lambda: not strangers(), 20.0)


def processes_of(data: Path) -> list[psutil.Process]:
    """Running processes whose command line or environment names the directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            named = any(str(data) in word for word in process.cmdline())
            if named or process.environ().get("PHOENIX_DATA_DIR") == str(data):
                found.append(process)
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, SIGKILL after half a minute. Nothing for one that has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def states_of(events: Sequence[Event], release: int) -> list[State]:
    """The states a release went through, as its events tell."""
    return [State(event.reason) for event in events if event.release == release and event.reason in _STATES]


def check_history(before: Sequence[Event], after: Sequence[Event], release: int) -> None:
    """No acknowledged event is lost, and the states follow each other as the transitions allow."""
    missing = [event for event in before if event not in after]
    assert not missing, f"lost events: {missing}"
    walked = states_of(after, release)
    assert walked[0] is State.STARTING
    assert len(walked) == len(set(walked)), f"a state was entered twice: {walked}"
    for old, new in pairwise(walked):
        assert new in TRANSITIONS[old], f"{old.value} to {new.value} is no move"
    assert walked[-1] in RESTING


@contextlib.contextmanager
def story(**options: Any) -> Iterator[Story]:
    """A Story that is running."""
    with Story(**options) as made:
        yield made
