"""Every command with what people get wrong: each ends, not with 0, and says what is wrong and what to do.

The commands are read from the program, and so are the types of what they take. What a command does with input
that is right is the matter of other tests.
"""

from __future__ import annotations

import contextlib
import enum
import inspect
import json
import os
import socket
import threading
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cli_commands import EVERY, Words
from tests.integration.fake_phoenix import FakeOperations, serving

from phoenix_orch.cli import following, main
from phoenix_orch.cli.streams import remembering
from phoenix_orch.demo import stage
from phoenix_orch.runtime.valkey_server import ValkeyServer

pytestmark = pytest.mark.timeout(120)

FULL = Path("/dev/full")
HUGE = 300 * 1024 * 1024
"""Bytes of a file with nothing in it, as of a disk image that was named by mistake."""
GOOD = "services:\n  web:\n    command: app --port {port}\nroutes:\n  web: {service: web}\n"
UNKNOWN = "none-such"

SAYS_IT_ALONE: dict[Words, str] = {
    ("init",): "writes a file",
    ("validate",): "the file is right",
    ("doctor",): "looks at this machine",
    ("schema",): "prints",
    ("crd",): "prints",
    ("completion",): "prints",
    ("version",): "prints",
    ("restore", "status"): "an empty list",
    ("keys", "init"): "makes keys",
    **dict.fromkeys((("up",), ("serve",), ("demo",)), "starts"),
}
"""What ends well without a Phoenix, and why."""


class StartedError(Exception):
    """A command went on to start what runs on."""


@dataclass(frozen=True)
class Ended:
    """What a person saw."""

    status: int
    out: str
    err: str

    def refused(self) -> None:
        """It says what is wrong and what to do, and shows nothing of its inside."""
        shown = f"{self.status}\n{self.out}\n{self.err}"
        assert "Traceback" not in shown, shown
        assert "error: unexpected" not in self.err, shown
        assert self.status in (1, 2, 3), shown
        said_in_its_report = self.status in (1, 3) and self.out and not self.err
        if not said_in_its_report:
            assert "error: " in self.err, shown
            assert "\n  what to do: " in self.err, shown
        assert len(self.err.splitlines()) <= 30, shown


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Type a command in a folder of one's own; what would start and stay is an error of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    for name in ("PHOENIX_URL", "PHOENIX_TOKEN", "PHOENIX_STORE", "XDG_DATA_HOME", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)

    async def started(*_: Any, **__: Any) -> None:
        raise StartedError

    monkeypatch.setattr(following, "PATIENCE", 0.5)
    monkeypatch.setattr(ValkeyServer, "ensure", started)
    monkeypatch.setattr(stage.Child, "python", started)

    def typed(*words: str) -> Ended:
        capfd.readouterr()
        status = main.run(words)
        out, err = capfd.readouterr()
        return Ended(0 if "unexpected StartedError" in err else status, out, err)

    return typed


# -- what the commands take --------------------------------------------------------------------------


def annotation_of(parameter: Any) -> Any:
    """The type of one value, without `| None` and `list`."""
    found = parameter.type_descriptor.annotation
    while typing.get_origin(found) in (list, types.UnionType, typing.Union):
        found = next(one for one in typing.get_args(found) if one is not type(None))
    return found


def is_path(parameter: Any) -> bool:
    found = annotation_of(parameter)
    return inspect.isclass(found) and issubclass(found, Path)


def option(parameter: Any) -> list[str]:
    return [] if parameter.param_type_name == "argument" else [max(parameter.opts, key=len)]


def right(parameter: Any, place: Path) -> str:
    """A value of the right type, of something that is not there."""
    found = annotation_of(parameter)
    if is_path(parameter):
        return str(place)
    if inspect.isclass(found) and issubclass(found, enum.Enum):
        return str(next(iter(found)).value)
    if found in (int, float):
        return str(parameter.min or 1)
    return "127.0.0.1:1" if parameter.metavar == "HOST:PORT" else UNKNOWN


def line(words: Words, place: Path, *, without: Any = None) -> list[str]:
    """The shortest command line that is understood."""
    typed = list(words)
    for parameter in EVERY[words].params:
        if parameter.required and parameter is not without:
            typed += [*option(parameter), right(parameter, place)]
    return typed


def each(chosen: Callable[[Any], bool]) -> list[Any]:
    return [
        pytest.param(words, parameter, id=f"{' '.join(words)} {parameter.name}")
        for words, command in EVERY.items()
        for parameter in command.params
        if chosen(parameter)
    ]


def named(words: Words) -> str:
    return " ".join(words)


# -- what cannot be understood -----------------------------------------------------------------------


@pytest.mark.parametrize("words", EVERY, ids=named)
def test_an_option_that_there_is_not(words: Words, run: Run, tmp_path: Path) -> None:
    ended = run(*line(words, tmp_path), "--no-such-option")
    ended.refused()
    assert ended.status == 2
    assert ended.out == ""
    assert "--no-such-option" in ended.err


@pytest.mark.parametrize("words", EVERY, ids=named)
def test_one_word_too_many(words: Words, run: Run, tmp_path: Path) -> None:
    if any(parameter.multiple or parameter.nargs != 1 for parameter in EVERY[words].params):
        pytest.skip("takes as many as there are")
    optional = [one for one in EVERY[words].params if one.param_type_name == "argument" and not one.required]
    ended = run(*line(words, tmp_path), *(right(one, tmp_path) for one in optional), "too-many")
    ended.refused()
    assert ended.status == 2


@pytest.mark.parametrize(
    ("words", "parameter"),
    each(lambda one: annotation_of(one) not in (str, bool) and not is_path(one)),
)
def test_what_is_of_another_type(words: Words, parameter: Any, run: Run, tmp_path: Path) -> None:
    for wrong in ("no number", "", "1e999", "-1e999", "💥"):
        ended = run(*line(words, tmp_path, without=parameter), *option(parameter), wrong)
        ended.refused()
        assert ended.status == 2
        assert ended.out == ""


def has(words: Words, name: str) -> bool:
    return any(name in parameter.opts for parameter in EVERY[words].params)


# -- files ---------------------------------------------------------------------------------------------


def files(place: Path) -> Iterator[tuple[str, Path]]:
    """What may be where a file should be."""
    place.mkdir()
    yield "missing", place / "missing"
    (place / "folder").mkdir()
    yield "a directory", place / "folder"
    (place / "empty").touch()
    yield "empty", place / "empty"
    yield "below a file that is none", place / "empty" / "file"
    (place / "binary").write_bytes(bytes(range(256)) * 64)
    yield "binary", place / "binary"
    with (place / "huge").open("wb") as file:
        file.truncate(HUGE)
    yield "huge", place / "huge"
    (place / "nowhere").symlink_to("nowhere")
    yield "a link to itself", place / "nowhere"
    os.mkfifo(place / "pipe")
    yield "a pipe nobody writes to", place / "pipe"
    yield "without an end", Path("/dev/zero")
    yield "unreadable", Path("/proc/self/mem")
    yield "a name too long", place / ("n" * 300)


WRITTEN = frozenset({"to", "write", "chart", "report", "recovery_file", "path"})
"""Files that are made: these may be missing."""
NO_PLACE = ("below a file that is none", "a directory", "a link to itself", "a name too long")
"""Where no file can be made."""
BESIDE = ("restore", "kept")
"""It looks for what is beside the folder, which may be gone itself."""
TAKEN = {(("init",), "path", "a directory"), (("verify-state",), "folder", "a directory")}


@pytest.mark.parametrize(("words", "parameter"), each(lambda one: is_path(one) and one.name != "data_dir"))
def test_a_file_that_is_none(words: Words, parameter: Any, run: Run, tmp_path: Path) -> None:
    where = ["--kubernetes"] if parameter.name == "kubeconfig" and has(words, "--kubernetes") else []
    for kind, file in files(tmp_path / "files"):
        if (parameter.name in WRITTEN or words == ("keys", "init")) and kind not in NO_PLACE:
            continue
        ended = run(*line(words, tmp_path, without=parameter), *where, *option(parameter), str(file))
        if ended.status == 0 and (words == BESIDE or (words, parameter.name, kind) in TAKEN):
            continue
        try:
            ended.refused()
        except AssertionError as error:
            raise AssertionError(f"{kind}: {error}") from error


@pytest.mark.parametrize("words", EVERY, ids=named)
def test_a_data_directory_that_is_none(words: Words, run: Run, tmp_path: Path) -> None:
    if not any(parameter.name == "data_dir" for parameter in EVERY[words].params):
        pytest.skip("needs none")
    (tmp_path / "file").write_text("a file")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none"), tmp_path / ("n" * 300)):
        ended = run(*line(words, tmp_path), "--data-dir", str(place))
        if words not in SAYS_IT_ALONE:
            ended.refused()


# -- servers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", EVERY, ids=named)
def test_no_phoenix_runs(words: Words, run: Run, tmp_path: Path) -> None:
    typed = line(words, tmp_path)
    if has(words, "--output"):
        typed += ["--output", "json"]
    ended = run(*typed)
    if ended.status == 0 and words in SAYS_IT_ALONE:
        return
    ended.refused()
    if ended.out:
        json.loads(ended.out)


def raw(answer: bytes) -> Callable[[socket.socket], None]:
    def told(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return told


def http(status: str, body: str, kind: str = "text/html", more: str = "") -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}"
    return raw(f"{head}Connection: close\r\n\r\n{body}".encode())


WRONG_SERVERS: dict[str, Callable[[socket.socket], None]] = {
    "speaks something else": raw(b"+PONG\r\n"),
    "hangs up": lambda _: None,
    "a web page": http("200 OK", "<html><body>Welcome to nginx!</body></html>"),
    "a web page that is not there": http("404 Not Found", "<html>404</html>"),
    "a list": http("200 OK", "[]", "application/json"),
    "an object of another program": http("200 OK", '{"status": "green"}', "application/json"),
    "a number": http("200 OK", "7", "application/json"),
    "half of it": raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n[{"),
    "not JSON": http("200 OK", "{", "application/json"),
    "an error": http("500 Internal Server Error", "oh\x1b[31m no"),
    "a gateway": http("502 Bad Gateway", "<html>upstream</html>"),
    "elsewhere": http("302 Found", "", more="Location: https://login.example.com/\r\n"),
    "nothing": http("204 No Content", ""),
}


MAY_FIT = ("a list", "an object of another program")
"""Answers that a Phoenix with nothing in it might give to some."""


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that answers everybody like this; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRONG_SERVERS)
def test_another_server_answers(kind: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(WRONG_SERVERS[kind]) as url:
        for words in EVERY:
            monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path / "-".join(words)))
            ended = run("--server", url, *line(words, tmp_path))
            if ended.status == 0 and (words in SAYS_IT_ALONE or kind in MAY_FIT):
                continue
            try:
                ended.refused()
            except AssertionError as error:
                raise AssertionError(f"{' '.join(words)}: {error}") from error


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "//x"]
)
def test_the_address_of_a_server_that_is_none(url: str, run: Run) -> None:
    run("--server", url, "get", "rollouts").refused()


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("p")
    with serving(FakeOperations(), place):
        yield place


@pytest.mark.parametrize("words", EVERY, ids=named)
def test_names_that_nobody_knows(words: Words, run: Run, phoenix: Path, tmp_path: Path) -> None:
    names = [one for one in EVERY[words].params if one.param_type_name == "argument" and not is_path(one)]
    if not names or not any(one.name == "data_dir" for one in EVERY[words].params):
        pytest.skip("names nothing")
    typed = [*line(words, tmp_path), *(right(one, tmp_path) for one in names if not one.required)]
    ended = run(*typed, "--data-dir", str(phoenix))
    if ended.status != 0 or words not in SAYS_IT_ALONE:
        ended.refused()


# -- what is printed goes nowhere ----------------------------------------------------------------------


@pytest.mark.parametrize("words", EVERY, ids=named)
def test_nothing_can_be_printed(
    words: Words, run: Run, phoenix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes_one = any(one.name == "data_dir" for one in EVERY[words].params)
    if SAYS_IT_ALONE.get(words) == "starts":
        pytest.skip("goes on")
    with FULL.open("w") as full, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", remembering(full))
        ended = run(*line(words, tmp_path), *(("--data-dir", str(phoenix)) if takes_one else ()))
    ended.refused()
