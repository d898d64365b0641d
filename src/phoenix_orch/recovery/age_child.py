"""What runs in the process of `age_process.py`: standard input is sealed or opened to standard output.

    python -m phoenix_orch.recovery.age_child encrypt|decrypt DESCRIPTOR

The keys come by that descriptor, a line each: an argument or the environment would show them to others. It
ends with 0; or with 1, and a line of JSON on standard error says why. It loads next to nothing, so that it
takes 15 MiB and begins at once.
"""

from __future__ import annotations

import json
import os
import sys
from typing import BinaryIO

import pyrage  # type: ignore[import-untyped]

from phoenix_orch.recovery.age_failure import Why, failed


class _Counting:
    def __init__(self, behind: BinaryIO) -> None:
        self.taken = 0
        self._behind = behind

    def read(self, size: int = -1, /) -> bytes:
        data = self._behind.read(size)
        self.taken += len(data)
        return data


def main() -> int:
    act, descriptor = sys.argv[1:]
    with os.fdopen(int(descriptor), encoding="ascii") as keys:
        lines = keys.read().splitlines()
    source, sink = _Counting(sys.stdin.buffer), sys.stdout.buffer
    try:
        if act == "encrypt":
            pyrage.encrypt_io(source, sink, [_public(line) for line in lines])
        else:
            pyrage.decrypt_io(source, sink, [pyrage.x25519.Identity.from_str(line) for line in lines])
            if source.read(1):
                return _failed(Why.MORE, source.taken)
        sink.flush()
    except (pyrage.EncryptError, pyrage.DecryptError, OSError) as error:
        return _failed(failed(error), source.taken)
    return 0


def _public(line: str) -> object:
    kind = pyrage.ssh if line.startswith("ssh-") else pyrage.x25519
    return kind.Recipient.from_str(line)


def _failed(why: Why, taken: int) -> int:
    sys.stderr.write(json.dumps({"why": why, "taken": taken}))
    return 1


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a pipe that nobody reads any more is no error at the end
