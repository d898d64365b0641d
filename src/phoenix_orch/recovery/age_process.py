"""age in a process of its own, for what is large.

Pyrage keeps the interpreter's lock while it works, 2 s for each GB: all else in this process would stand
still by turns, and a second processor would be no help. It is used like a `Handover`: one thread writes to
it, another one reads, and what comes out is what was encrypted or decrypted meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Literal

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.recovery import age_child
from phoenix_orch.recovery.age_failure import NotOpened, Why
from phoenix_orch.recovery.gently import step_back
from phoenix_orch.recovery.handover import GivenUp

PIPE = 1024 * 1024
"""Bytes that wait in each of its pipes: with the usual 64 KiB both sides wake each other all the time."""


class AgeProcess:
    """Made by `age_process`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.given_up: GivenUp | None = None
        self._process = process
        self._into, self._from = process.stdin, process.stdout
        for pipe in (self._into, self._from):
            with contextlib.suppress(AttributeError, OSError):  # only Linux, and only up to the user's limit
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)

    def write(self, data: bytes, /) -> int:
        """Waits for room. What comes after its end is dropped: who reads learns why it has ended. Raises
        GivenUp."""
        rest = memoryview(data)
        while rest:
            if self.given_up is not None:
                raise self.given_up
            try:
                rest = rest[self._into.write(rest) or 0 :]
            except BrokenPipeError:
                break
        return len(data)

    def end(self) -> None:
        """Nothing comes any more."""
        with contextlib.suppress(BrokenPipeError):
            self._into.close()

    def read(self, size: int = -1, /) -> bytes:
        """Waits for some bytes; b"" at a sound end. Raises GivenUp, NotOpened, and Retryable when the process
        was ended by somebody else."""
        data = self._from.read(size)
        if not data:
            self._ended()
        return data

    def give_up(self) -> None:
        """Whoever waits at the other side goes on with GivenUp. Idempotent."""
        self.given_up = self.given_up or GivenUp()
        self._process.kill()

    def _ended(self) -> None:
        code = self._process.wait()
        if self.given_up is not None:
            raise self.given_up
        if code == 0:
            return
        assert self._process.stderr is not None
        try:
            told = json.loads(self._process.stderr.read())
            raise NotOpened(Why(told["why"]), told["taken"])
        except (ValueError, KeyError, TypeError):
            how = f"by signal {-code}" if code < 0 else f"with {code}"
            raise Retryable(
                f"the process that encrypts and decrypts has ended {how}",
                remedy="nothing of it was kept; see the system's log: the machine may lack memory",
            ) from None


@contextlib.contextmanager
def age_process(
    act: Literal["encrypt", "decrypt"], keys: Sequence[str], *, gently: bool = False
) -> Iterator[AgeProcess]:
    """`keys`: recipients as text to encrypt, secret lines of X25519 identities to decrypt. `gently`: with
    what the processors have left.

    Its end is the end of the process, whatever happens.
    """
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", age_child.__name__, act, str(reading)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[reading],
            bufsize=0,
        )
        with os.fdopen(writing, "w", encoding="ascii", closefd=False) as line:
            line.write("\n".join(keys) + "\n")
    except OSError as error:
        raise Retryable(
            f"no process can be started that encrypts and decrypts: {error.strerror}",
            remedy="the machine may lack memory, or the user may have too many processes",
        ) from error
    finally:
        os.close(reading)
        os.close(writing)
    if gently:
        step_back(process.pid)
    try:
        yield AgeProcess(process)
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        process.wait()
