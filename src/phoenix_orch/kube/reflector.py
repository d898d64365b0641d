"""Keeps a `Cache` current: list, watch, go on where the watch ended, list anew where that is not enough.

A watch alone misses what happened in a gap. Here a list is compared with what was known, so that what
went meanwhile is found; and from time to time a list of names and versions proves that nothing is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from time import monotonic
from typing import NoReturn

import structlog

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import PAGE, KubeClient, Selection
from phoenix_orch.kube.errors import Unanswered, status_from, status_from_object
from phoenix_orch.kube.following import BACKOFF, End, Ended, after, end_of_answer, end_of_event
from phoenix_orch.kube.pruning import Prune, without_bookkeeping
from phoenix_orch.kube.resources import Key, Object, key_of, older
from phoenix_orch.kube.snapshot import identities, same
from phoenix_orch.kube.watch_events import Lines, Unreadable, WatchEvent, event_of
from phoenix_orch.runtime.faults import Faults


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    watch: float = 300.0
    """The API server ends a watch after one to two times this."""
    silence: float = 100.0
    """A watch without a byte for so long is given up. A bookmark comes every minute."""
    proof: float = 600.0
    """Between two proofs."""
    settle: float = 5.0
    """Between two looks at what differs: an event may be under way."""
    steady: float = 30.0
    """A watch that lasted so long has worked."""


class Reflector:
    """Run it as a task; it never ends by itself and raises nothing."""

    def __init__(
        self,
        client: KubeClient,
        selection: Selection,
        *,
        prune: Prune = without_bookkeeping,
        timing: Timing = Timing(),
        page: int = PAGE,
        clock: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.cache = Cache(selection, clock=clock)
        self.lists = 0
        self.watches = 0
        self.missed = 0
        """Objects that a proof found to be missing or old. Anything but 0 is a defect, here or there."""
        self._client = client
        self._prune = prune
        self._timing = timing
        self._page = page
        self._clock = clock
        self._chance = chance
        self._session: asyncio.Timeout | None = None
        self._live = asyncio.Event()
        self._doubt = asyncio.Event()
        self._relist_wanted = False
        log = structlog.get_logger("phoenix.kube")
        self._log = log.bind(watch=str(selection.resource), namespace=selection.namespace)
        self._faults = Faults(self._log)

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._prove_now_and_then())
            await self._follow()
        raise AssertionError("both go on until they are cancelled")

    async def _follow(self) -> NoReturn:
        failures, relist = 0, True
        while True:
            if relist:
                self._relist_wanted = False
                await self._list_until_it_works()
            ended = await self._watch()
            following = after(ended, failures, self._chance())
            failures, relist = following.failures, following.relist or self._relist_wanted
            if ended.how not in {End.DONE, End.GONE, End.MISSED}:
                self._doubt.set()
                self._trouble(Unanswered(f"the watch of {self._what} ended: {ended.how}: {ended.told}"))
            await asyncio.sleep(following.wait)

    async def _list_until_it_works(self) -> None:
        failures = 0
        while True:
            asked_at = self._clock()
            try:
                listed, version = await self._list()
            except PhoenixError as error:
                self._trouble(error)
            except Exception as error:  # noqa: BLE001 - one odd object must not end the watch of all
                self._faults.tell("watch", error=error, unforeseen=True)
            else:
                self.cache.replaced(listed, version, asked_at)
                self._fine()
                return
            await asyncio.sleep(BACKOFF.delay(failures, self._chance()))
            failures += 1

    async def _list(self) -> tuple[dict[Key, Object], str]:
        """Page by page; what has not changed stays the object it was, so that nothing is held twice."""
        self.lists += 1
        known = self.cache.snapshot.objects
        listed: dict[Key, Object] = {}
        version = ""
        async for page in self._client.pages(self.cache.selection, limit=self._page):
            for found in page.items:
                key = key_of(found)
                before = known.get(key)
                listed[key] = before if before is not None and same(before, found) else self._prune(found)
            version = page.version
        return listed, version

    async def _watch(self) -> Ended:
        """Follow one watch to its end."""
        self.watches += 1
        begun = self._clock()
        came = False
        try:
            async with asyncio.timeout(None) as self._session:
                ended = None
                async with contextlib.aclosing(self._events()) as events:
                    async for event in events:
                        if isinstance(event, Ended):
                            ended = event
                            break
                        if event.type == "ERROR":
                            ended = end_of_event(status_from_object(event.object), progress=came)
                            break
                        self._obey(event)
                        came = True
        except TimeoutError:
            return Ended(End.MISSED, "a proof found something else")
        except Unreadable as error:
            return Ended(End.UNREADABLE, str(error))
        except PhoenixError as error:
            return Ended(End.BROKEN, str(error), progress=came)
        except Exception as error:  # noqa: BLE001 - one odd object must not end the watch of all
            self._faults.tell("watch", error=error, unforeseen=True)
            return Ended(End.UNREADABLE, f"{type(error).__name__}: {error}")
        finally:
            self._session = None
            self._live.clear()
        lasted = self._clock() - begun >= self._timing.steady
        return ended or Ended(End.DONE, progress=came or lasted)

    async def _events(self) -> AsyncGenerator[WatchEvent | Ended, None]:
        seconds = int(self._timing.watch * (1 + self._chance())) + 1
        version = self.cache.version
        async with self._client.watch(self.cache.selection, version=version, seconds=seconds) as streamed:
            if streamed.status != 200:
                body = await streamed.read(self._timing.settle)
                said = status_from(streamed.status, body, streamed.headers.get("retry-after"))
                yield end_of_answer(said)
                return
            self._live.set()
            lines = Lines()
            async for piece in streamed.pieces(self._timing.silence):
                for line in lines.feed(piece):
                    yield event_of(line)
            if lines.unfinished:
                raise Unanswered("it ended in the middle of a line")

    def _obey(self, event: WatchEvent) -> None:
        match event.type:
            case "BOOKMARK":
                self.cache.nothing_until(event.version)
            case "DELETED":
                self.cache.removed(event.object)
            case _:
                self.cache.put(self._prune(event.object))
        self._fine()

    async def _prove_now_and_then(self) -> NoReturn:
        """Every while, and after trouble: the API server that comes back may be one of a restored cluster,
        whose versions have gone back. A watch from a version that it has not reached yet says nothing."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.proof * (0.9 + 0.2 * self._chance())):
                    await self._doubt.wait()
                    await asyncio.sleep(self._timing.settle * (1 + self._chance()))
            self._doubt.clear()
            try:
                await self.prove()
            except PhoenixError as error:
                self._faults.tell("proof", error=error)
            except Exception as error:  # noqa: BLE001 - one odd object must not end the watch of all
                self._faults.tell("proof", error=error, unforeseen=True)
            else:
                self._faults.mended("proof")

    async def prove(self) -> set[Key]:
        """Compare names and versions with a list of them; list anew when some were missed. Gives those.

        What differs is looked at twice, since either side may be a moment ahead: it was missed if one and
        the same watch was open all the time, the cache has not moved meanwhile, and still differs.
        Waits for a watch. Raises Retryable, Forbidden.
        """
        await self._live.wait()
        watches = self.watches
        before, suspects = await self._differing()
        if suspects:
            await asyncio.sleep(self._timing.settle)
            now, still = await self._differing()
            suspects = {key for key in suspects & still if before.get(key) == now.get(key)}
        if watches != self.watches or not self._live.is_set():
            self._doubt.set()
            return set()
        if suspects:
            self.missed += len(suspects)
            self._log.error("the watch missed changes; listing anew", objects=len(suspects))
            self._list_anew()
        return suspects

    async def _differing(self) -> tuple[dict[Key, tuple[str, str]], set[Key]]:
        """What the cache has, and the keys of which a list says something else."""
        asked_at, shown = self._clock(), self.cache.version
        listed: dict[Key, tuple[str, str]] = {}
        version = shown
        async for page in self._client.pages(self.cache.selection, metadata_only=True):
            listed |= identities(page.items)
            version = page.version
        if older(version, shown):
            self._log.warning("the cluster has gone back in time; listing anew", was=shown, now=version)
            self._list_anew()
        differing = self.cache.snapshot.differing(listed)
        if not differing:
            self.cache.proven(asked_at)
        return identities(self.cache), differing

    def _list_anew(self) -> None:
        self._relist_wanted = True
        if self._session is not None:
            self._session.reschedule(asyncio.get_running_loop().time())

    @property
    def _what(self) -> str:
        return str(self.cache.selection.resource)

    def _trouble(self, error: PhoenixError) -> None:
        self.cache.fault = error
        self._faults.tell("watch", error=error)

    def _fine(self) -> None:
        self.cache.fault = None
        self._faults.mended("watch")
