"""Script calls of many tasks at once, sent together.

A server that writes to its disk before it answers does so once for everything that came together: what a
hundred running tasks say costs little more than what one says. Each caller gets its own answer or error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.runtime.valkey_client import answered, translated

_MOST = 200
"""Calls that are sent together."""


class ScriptCalls:
    """Calls Lua scripts by name; nothing is sent again by itself."""

    def __init__(self, client: Redis, sources: Mapping[str, str], prefix: str) -> None:
        """`prefix`: KEYS[1] of every script."""
        self._client = client
        self._prefix = prefix
        self._scripts = {name: client.register_script(source) for name, source in sources.items()}
        self._waiting: list[tuple[asyncio.Future[Any], tuple[Any, ...]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def run(self, script: str, *arguments: Any) -> Any:
        """The script's answer. Raises Retryable, or Terminal for a key that is not ours."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((answer, ("EVALSHA", self._scripts[script].sha, 1, self._prefix, *arguments)))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), name="script calls")
        return await answer

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            batch = [
                (answer, call) for answer, call in batch if not answer.done()
            ]  # its caller was cancelled
            try:
                replies = await self._replies([call for _, call in batch])
            except PhoenixError as error:
                replies = [error] * len(batch)
            for (answer, _), reply in zip(batch, replies, strict=True):
                if answer.done():
                    continue
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)

    async def _replies(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        replies = await self._execute(calls)
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # a server that was started anew
            async with answered(self._client):
                for script in self._scripts.values():
                    await self._client.script_load(script.script)
            again = await self._execute([calls[index] for index in unknown])
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = reply
        return [
            translated(reply, self._client) if isinstance(reply, RedisError) else reply for reply in replies
        ]

    async def _execute(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        async with answered(self._client), self._client.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.execute_command(*call)
            return list(await pipe.execute(raise_on_error=False))
