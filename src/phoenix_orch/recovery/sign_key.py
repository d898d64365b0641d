"""The key of the signs by which unchanged secrets are known: on this machine, and sealed in the backup."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.recovery.value_digests import KEY_BYTES


def kept(path: Path) -> bytes:
    """The key, made when there is none; a torn one counts as none.

    With a new one every secret is written once more, and nothing is lost. Raises Retryable.
    """
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
        if len(key) == KEY_BYTES:
            return key
    except (FileNotFoundError, ValueError):
        pass
    except OSError as error:
        raise Retryable(f"{path} cannot be read: {error.strerror}", remedy="mend its rights") from error
    return _made(path)


def _made(path: Path) -> bytes:
    key, temporary = secrets.token_bytes(KEY_BYTES), path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.hex())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise Retryable(
            f"{path} cannot be written: {error.strerror}", remedy="make room on its disk"
        ) from error
    return key


def where(state: Path) -> Path:
    """The file of the key in a state directory."""
    return state / "digest.key"


def recipients_in_order(recipients: Sequence[str]) -> list[str]:
    """Each once, sorted: another order is no other set."""
    return sorted(set(recipients))
