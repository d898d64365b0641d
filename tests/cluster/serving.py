"""Phoenix's three processes beside a cluster, as `phoenix serve COMPONENT --kubernetes` starts them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

COMPONENTS = ("orchestrator", "health-validator", "rollback-controller")


class Component:
    """One process, and what it has logged."""

    def __init__(self, name: str, words: list[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "phoenix_orch", "serve", self.name, *self._words],
                stdout=out,
                stderr=out,
                env={**os.environ, "NO_PROXY": "*"},
            )

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def lines(self) -> list[dict[str, Any]]:
        """What it logged; every line is an object."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    def tail(self) -> str:
        return self.log.read_text("utf-8")[-4000:] if self.log.exists() else ""


class Phoenix:
    """The three of them."""

    def __init__(self, components: dict[str, Component]) -> None:
        self._components = components

    def __getitem__(self, name: str) -> Component:
        return self._components[name]

    def tails(self) -> str:
        return "\n".join(f"--- {one.name}\n{one.tail()}" for one in self._components.values())


@contextlib.contextmanager
def running(
    folder: Path, *, kubeconfig: Path, namespace: str, store: str, prometheus: str
) -> Iterator[Phoenix]:
    """All three in one namespace. They end in order when the block does, and say so with status 0."""
    common = ["--kubernetes", f"--kubeconfig={kubeconfig}", f"--namespace={namespace}", f"--store={store}"]
    more = {"health-validator": [f"--prometheus={prometheus}"]}
    phoenix = Phoenix({name: Component(name, [*common, *more.get(name, [])], folder) for name in COMPONENTS})
    started = []
    try:
        for name in COMPONENTS:
            phoenix[name].start()
            started.append(name)
        yield phoenix
    finally:
        ends = {name: phoenix[name].end() for name in started}
    assert set(ends.values()) == {0}, f"{ends}\n{phoenix.tails()}"


def until(what: str, condition: Callable[[], bool], seconds: float, told: Callable[[], str]) -> None:
    """Wait for it; fail with what `told()` says then."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s: {what}\n{told()}"
        time.sleep(0.2)
