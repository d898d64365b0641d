"""Entry of the `phoenix` program: runs a command and turns whatever happens into an exit status.

Exit status: 0 done, 1 failed, 2 bad input, name or state, 3 Phoenix cannot be reached, 4 rolled back,
5 time-out, 130 interrupted. Errors go to standard error as what is wrong and what to do about it; no
traceback is ever shown. A pipe that nobody reads any more ends a command quietly, an output that cannot be
written with words.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]
from typer.core import TyperGroup

from phoenix_orch.cli.options import default_data_dir
from phoenix_orch.cli.root import PROG, command_tree
from phoenix_orch.cli.streams import failure, readable_streams, silence
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.kernel.text import is_text, plain_lines
from phoenix_orch.runtime.files import temporary_folder

COMPLETE_VARIABLE = "_PHOENIX_COMPLETE"
_OF_THE_MACHINE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EFBIG,
        errno.EMFILE,
        errno.ENFILE,
        errno.EACCES,
    }
)
"""Errors that are no fault of Phoenix, wherever they come up."""
_OF_A_NAME = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
"""The same, of a path that somebody gave."""
OK, FAILED, BAD_INPUT, UNREACHABLE, ROLLED_BACK, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


def main() -> None:
    """The console script."""
    readable_streams()
    if COMPLETE_VARIABLE in os.environ:
        completion_init()
    status = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # once more: at once, whatever is still being tidied up
    sys.exit(status)


def run(arguments: Sequence[str], *, tree: Callable[[], Any] = command_tree, prog: str = PROG) -> int:
    """Run one command line and return its exit status. `prog`: what the user calls the program."""
    try:
        status = _not_text(arguments) or _run(arguments, tree, prog)
    except BrokenPipeError:
        status = OK  # the reader has what it wanted
    except KeyboardInterrupt:  # while an error was told
        status = INTERRUPTED
    if (error := failure(sys.stdout)) is not None:
        silence(sys.stdout)
        status = status if isinstance(error, BrokenPipeError) else _unwritten(error)
    if failure(sys.stderr) is not None:
        silence(sys.stderr)
    return status


def _unwritten(error: OSError) -> int:
    complain(
        f"standard output cannot be written: {(error.strerror or str(error)).lower()}",
        "make room, or send it elsewhere; what the command was asked to change may be done, so look first",
    )
    return FAILED


def _not_text(arguments: Sequence[str]) -> int:
    """Refuse bytes that are no text before anybody stumbles over them; 0 when there are none."""
    for number, argument in enumerate(arguments, start=1):
        if not is_text(argument):
            complain(
                f"argument {number} is no text in UTF-8", "look at the encoding of names and of the terminal"
            )
            return BAD_INPUT
    return OK


def _run(arguments: Sequence[str], tree: Callable[[], Any], prog: str) -> int:
    try:
        result = tree().main(
            args=list(arguments) or ["--help"],
            prog_name=prog,
            standalone_mode=False,
            complete_var=COMPLETE_VARIABLE,
        )
    except PhoenixError as error:
        complain(error.message, error.remedy)
        return error.exit_code
    except typer.TyperException as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as ended:
        return _ended(ended)
    except OSError as error:
        return _of_the_system(error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        known = _known(error)
        if known is None:
            return _unexpected(error)
        complain(known.message, known.remedy)
        return known.exit_code
    return result if isinstance(result, int) else OK


def _of_the_system(error: OSError) -> int:
    """What the machine refused. Raises BrokenPipeError where nobody reads what is printed any more."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(failure(stream), BrokenPipeError):
            raise BrokenPipeError from error
    if failure(sys.stdout) is not None:
        return FAILED  # told when all is over
    if error.errno not in _OF_THE_MACHINE | _OF_A_NAME:
        return _unexpected(error)
    what = f"{error.filename}: " if error.filename else ""
    remedy = (
        "mend that on this machine, and try again" if error.errno in _OF_THE_MACHINE else "name another path"
    )
    complain(f"{what}{(error.strerror or str(error)).lower()}", remedy)
    return FAILED


def _ended(ended: SystemExit) -> int:
    """Typer ends the program itself after a completion, and with a pacified output at a closed pipe."""
    if type(sys.stdout).__name__ == "PacifyFlushWrapper":
        silence(sys.__stdout__)
        return OK
    return ended.code if isinstance(ended.code, int) else OK


def _known(error: BaseException) -> PhoenixError | None:
    """The error of ours that ended a group of tasks, when that alone ended it."""
    if isinstance(error, BaseExceptionGroup):
        found = [_known(part) for part in error.exceptions]
        return found[0] if None not in found else None
    return error if isinstance(error, PhoenixError) else None


def complain(message: str, remedy: str = "") -> None:
    """What is wrong and what to do about it, on standard error."""
    from phoenix_orch.kernel.masking import masked_text, told  # noqa: PLC0415 - most runs end well

    message = masked_text(plain_lines(message))
    lines = [f"error: {message}"]
    if "\n" not in message:  # one with lines of a file in it has its own shape
        lines = [_fitted(lines[0])]
    if remedy:
        lines.append(_fitted(told(f"  what to do: {remedy}")))
    with contextlib.suppress(OSError):  # nobody reads it, or it has no room: the exit status still says it
        print("\n".join(lines), file=sys.stderr, flush=True)


def _fitted(line: str) -> str:
    """The line as a terminal shows it without breaking a word."""
    if not sys.stderr.isatty():
        return line
    from phoenix_orch.cli.output import folded, width  # noqa: PLC0415 - heavy, and most runs end well

    return folded(line, width(sys.stderr))


def _usage(error: typer.TyperException) -> int:
    """A command line that cannot be understood; a command without its rest shows its help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        print(context.get_help())
        return BAD_INPUT
    path = context.command_path if context is not None else PROG
    message = " ".join(error.format_message().split()).replace("Value error, ", "")
    message = message[:1].lower() + message[1:].rstrip(".")
    guess = _guess(error, context)
    complain(f"{message}{guess}", f"`{path} --help` shows what can be given")
    return BAD_INPUT


def _guess(error: typer.TyperException, context: typer.Context | None) -> str:
    """What was probably meant by a command, or a word of a few, that is none."""
    choice = re.search(r"'([^']*)' is not one of (.*)\.$", error.format_message())
    if choice is not None:
        close = difflib.get_close_matches(choice.group(1), re.findall(r"'([^']*)'", choice.group(2)), n=1)
        return f"; did you mean {close[0]!r}?" if close else ""
    found = re.search(r"No such command '([^']*)'\.$", error.message)
    if found is None or context is None:
        return ""
    names = context.command.list_commands(context) if isinstance(context.command, TyperGroup) else []
    close = difflib.get_close_matches(found.group(1), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unexpected(error: Exception) -> int:
    """A fault of Phoenix itself: one line for the user, the details in a file for its author."""
    details = _harmless("".join(traceback.format_exception(error)))
    said = _harmless(f"unexpected {type(error).__name__}: {error}")
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    for directory in (default_data_dir(), temporary_folder()):
        path = directory / f"phoenix-error-{moment}-{os.getpid()}.log"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(details)
        complain(said, f"report it; the details are in {path}")
        return FAILED
    complain(said, "report it; the details could not be written anywhere")
    return FAILED


def _harmless(text: str) -> str:
    """What nobody foresaw may hold anything."""
    from phoenix_orch.kernel.masking import masked_assignments, masked_text  # noqa: PLC0415

    return masked_assignments(masked_text(plain_lines(text)))


if __name__ == "__main__":
    main()
