"""The configuration applied last, in full, in one file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
from pydantic import ValidationError

from phoenix_orch.kernel.errors import Invalid, Retryable
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.layout import staged

_log = structlog.get_logger("phoenix")


def read_kept(path: Path) -> PhoenixFile | None:
    """The configuration applied last, or None where none was. Raises Invalid for what cannot be read."""
    try:
        return PhoenixFile.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", remedy="mend its rights") from error
    except (ValidationError, UnicodeDecodeError):  # their text would repeat the environment of services
        raise Invalid(
            f"{path} does not hold a configuration of this version of Phoenix",
            remedy="start with -f and the configuration file; it is written anew",
        ) from None


def read_replaceable(path: Path) -> PhoenixFile | None:
    """As `read_kept`, for one who is about to keep another configuration there.

    What cannot be read counts as none. It gets a second name and keeps its own until it is replaced, so
    that a start which fails later leaves all as it was.
    """
    try:
        return read_kept(path)
    except Invalid as error:
        _log.warning(error.message, kept_as=str(_put_aside(path)))
        return None


def _put_aside(path: Path) -> Path | None:
    aside = path.with_name(path.name + ".unreadable")
    try:
        aside.unlink(missing_ok=True)
        os.link(path, aside)
    except OSError:
        try:
            path.replace(aside)  # a directory, or a file system without links
        except OSError:
            return None
    return aside


@contextlib.contextmanager
def keeping(path: Path, config: PhoenixFile) -> Iterator[Callable[[], None]]:
    """Make sure that there is room to keep the configuration; the body keeps it when all else is done.

    One that is kept already needs no room: Phoenix starts on a full disk. Raises Retryable where it
    cannot be written.
    """
    text = kept_text(config)
    if _holds(path, text):
        yield lambda: None
        return
    with contextlib.ExitStack() as stack:
        with _told(path):
            put_in_place = stack.enter_context(staged(path, text))

        def keep() -> None:
            with _told(path):
                put_in_place()

        yield keep


def kept_text(config: PhoenixFile) -> str:
    """The content of the file."""
    return config.model_dump_json(by_alias=True, indent=1)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Retryable(
            f"what is applied cannot be written to {path}: {error.strerror}",
            remedy="mend that and apply the same again",
        ) from error
