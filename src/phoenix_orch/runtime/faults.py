"""What is wrong now, so that a loop says a fault once when it comes and once when it is over."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Any

from phoenix_orch.kernel.errors import PhoenixError

_DIGITS = re.compile(r"\d+")


class Faults:
    """The faults of one loop. A place names what is in trouble, its owner first: `("shop", "store")`."""

    def __init__(self, log: Any) -> None:
        """`log`: a structlog logger."""
        self._log = log
        self._present: dict[tuple[str, ...], tuple[str, Exception]] = {}

    def tell(self, *place: str, error: Exception, unforeseen: bool = False) -> None:
        """Log the fault unless it is the one told last for this place; numbers in it make no difference.

        `unforeseen`: a defect of Phoenix; it is logged with where it happened.
        """
        kind = f"{type(error).__name__}: {_DIGITS.sub('', str(error))}"
        if self._present.get(place, ("",))[0] != kind:
            self._log.warning(str(error) or type(error).__name__, at="/".join(place), exc_info=unforeseen)
        self._present[place] = kind, error

    def mended(self, *place: str) -> None:
        """Say that it works again, if it did not."""
        if self._present.pop(place, None) is not None:
            self._log.info("works again", at="/".join(place))

    async def guard(self, step: Awaitable[bool], *place: str) -> bool:
        """What `step` gives; False where it fails, whatever it meets, so that other steps go on."""
        try:
            done = await step
        except PhoenixError as error:
            self.tell(*place, error=error)
            return False
        except Exception as error:  # noqa: BLE001 - a defect in one must not keep the others waiting
            self.tell(*place, error=error, unforeseen=True)
            return False
        self.mended(*place)
        return done

    def forget(self, owner: str) -> None:
        """The owner is gone, and its faults with it."""
        self._present = {place: told for place, told in self._present.items() if place[0] != owner}

    def of(self, owner: str) -> dict[str, Exception]:
        """What is in trouble now, and why."""
        return {
            "/".join(what): error
            for (who, *what), (_, error) in self._present.items()
            if who == owner and what
        }
