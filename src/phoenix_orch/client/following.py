"""A stream that comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from phoenix_orch.client.events import StreamEvent, messages
from phoenix_orch.client.places import Place
from phoenix_orch.client.problems import raise_problem
from phoenix_orch.client.transport import Answer, NobodyListens, NotAllowed, lines
from phoenix_orch.kernel.errors import Retryable, Unavailable

SILENCE = 40.0
"""Seconds without a line after which a connection counts as dead: Phoenix says something every 15."""
PATIENCE = 60.0
"""Seconds without an answer after which it is given up."""
PAUSE = 1.0
"""Seconds between two tries."""


def follow(
    place: Place, target: str, last_id: str, over: Callable[[], bool] = lambda: False
) -> Iterator[StreamEvent]:
    """Messages of the stream at `target`, from the one after `last_id`; see `Client.stream`.

    `over`: whether there is nothing more to come, asked when a connection has ended.
    """
    heard = float("-inf")  # at the beginning nobody waits: what is wrong is told at once
    while True:
        try:
            for message in messages(_lines(place, target, last_id)):
                heard, last_id = time.monotonic(), message.id or last_id
                if message.event == "reconnect":
                    break
                yield message
                if message.event == "gone" and not message.data:
                    return
            heard = time.monotonic()
            if over():
                return
        except NotAllowed as error:
            raise place.not_allowed() from error
        except (NobodyListens, OSError, Retryable) as error:
            if time.monotonic() - heard > PATIENCE:
                raise _given_up(place, error) from error
        time.sleep(PAUSE)


def _lines(place: Place, target: str, last_id: str) -> Iterator[bytes]:
    """Raises the error that the API answers instead of a stream."""
    headers = {**place.headers, "Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    for line in lines(place.connection(SILENCE), target, headers):
        if isinstance(line, bytes):
            yield line
        elif line.body or line.status >= 400:
            _refused(line)


def _refused(answer: Answer) -> None:
    raise_problem(answer.status, answer.body)


def _given_up(place: Place, error: Exception) -> Retryable:
    if isinstance(error, Retryable):
        return error
    return place.nobody_listens() if isinstance(error, NobodyListens) else _gone(place)


def _gone(place: Place) -> Unavailable:
    return Unavailable(f"{place.name} goes away again and again", remedy="see its log")
