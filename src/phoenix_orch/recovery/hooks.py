"""Bring an application to rest while its files are copied, and wake it whatever happens.

Before the first hook a note is on the disk; it goes when the application was woken. A note whose writer has
died says that an application may still be at rest: `wake_left` wakes it at the next start.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from phoenix_orch.kernel.errors import BadState, Terminal
from phoenix_orch.recovery.hook_spec import Hook, Quiesce
from phoenix_orch.runtime.files import make_private
from phoenix_orch.runtime.held_lock import HeldLock


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one hook."""

    when: str
    """`before` or `after`."""
    hook: str
    seconds: float
    fault: str = ""
    """Empty when it was well."""

    def fact(self) -> dict[str, object]:
        return asdict(self)


class Rest:
    """An application that is at rest, until `wake`."""

    def __init__(self, hooks: Quiesce, note: Path) -> None:
        self._hooks = hooks
        self._note = note
        self._awake = False
        self.results: list[Result] = []

    def begin(self) -> None:
        """Raises Terminal at the first hook that fails; then, too, `wake` has to follow."""
        _write_note(self._note, self._hooks)
        for hook in self._hooks.before:
            result = run(hook, "before")
            self.results.append(result)
            if result.fault:
                raise Terminal(
                    f"the application is not at rest: {hook.name}: {result.fault}",
                    remedy="mend the hook `before`; without it the files may not fit each other",
                )

    def wake(self) -> None:
        """Do everything that wakes it, once. Raises Terminal when a part of it failed; the note stays."""
        if self._awake:
            return
        self._awake = True
        woken = [run(hook, "after") for hook in self._hooks.after]
        self.results += woken
        failed = [one for one in woken if one.fault]
        if failed:
            raise Terminal(
                "the application may still be at rest: "
                + "; ".join(f"{one.hook}: {one.fault}" for one in failed),
                remedy="wake it by hand; Phoenix tries again at its next start and before the next backup",
            )
        self._note.unlink(missing_ok=True)


@contextlib.contextmanager
def at_rest(hooks: Quiesce, note: Path) -> Iterator[Rest]:
    """The application is at rest in the body, or until the body calls `wake`.

    `note`: a file of this application alone. One that is left from a run that died is taken care of first.
    Raises BadState while another process has the same application at rest, Terminal where a hook fails.
    """
    rest = Rest(hooks, note)
    if not (hooks.before or hooks.after):
        yield rest
        return
    make_private(note.parent)
    with _alone(note) as ours:
        if not ours:
            raise BadState(
                f"{note.stem} is at rest for another backup", remedy="wait until that one has ended"
            )
        _wake(note)
        try:
            rest.begin()
            yield rest
        except BaseException:
            with contextlib.suppress(Terminal):  # what is under way says more
                rest.wake()
            raise
        rest.wake()


def wake_left(folder: Path) -> list[Result]:
    """Wake the applications whose notes are in the folder and whose runs have died. What failed keeps its
    note."""
    results: list[Result] = []
    for note in sorted(folder.glob("*.json")):
        with _alone(note) as ours:
            if ours:
                results += _wake(note)
    return results


def run(hook: Hook, when: str) -> Result:
    """Do one, in its time."""
    began = time.monotonic()
    fault = _called(hook) if hook.url is not None else _run(hook)
    return Result(when, hook.name, round(time.monotonic() - began, 3), fault)


def _wake(note: Path) -> list[Result]:
    """What a note says is still to be done."""
    try:
        hooks = Quiesce.model_validate_json(note.read_bytes())
    except FileNotFoundError:
        return []
    except ValueError:
        note.unlink()  # torn: it is written whole before the first hook is done
        return []
    rest = Rest(hooks, note)
    with contextlib.suppress(Terminal):
        rest.wake()
    return rest.results


def _write_note(note: Path, hooks: Quiesce) -> None:
    """It holds what hooks are given: for its owner alone."""
    temporary = note.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(hooks.model_dump(mode="json", by_alias=True), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(note)
    folder = os.open(note.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _alone(note: Path) -> Iterator[bool]:
    lock = HeldLock(note.with_suffix(".lock"))
    taken = lock.take()
    try:
        yield taken
    finally:
        lock.release()


def _called(hook: Hook) -> str:
    limit = hook.timeout.total_seconds()
    try:
        with httpx.stream("POST", str(hook.url), timeout=limit) as answer:  # how much it says is its own
            status = answer.status_code
    except httpx.TimeoutException:
        return f"no answer in {limit:g} s"
    except httpx.HTTPError as error:
        return f"no answer: {type(error).__name__}"
    return "" if status < 300 else f"status {status}"


def _run(hook: Hook) -> str:
    """In a process group of its own, which is gone when this returns."""
    limit = hook.timeout.total_seconds()
    try:
        process = subprocess.Popen(
            hook.command,
            env={**os.environ, **hook.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        return f"not done in {limit:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if status == 0:
        return ""
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def all_well(results: Sequence[Result]) -> bool:
    return not any(one.fault for one in results)
