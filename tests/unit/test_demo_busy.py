"""A machine that is too busy for a demo: it waits a while, and then says so in words about the machine."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from phoenix_orch.demo import run
from phoenix_orch.demo.output import PlainOutput
from phoenix_orch.demo.scenario import RELEASES
from phoenix_orch.kernel.errors import BadState, Terminal

pytestmark = pytest.mark.anyio
SLOW = BadState("shop: limit not attainable: stable itself is slower than 100 ms", remedy="raise the limit")


class Refusing:
    """A stage where the shop is too slow for so many asks."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def ask(self, call: Any) -> Any:
        if self.left:
            self.left -= 1
            raise SLOW
        return call(SimpleNamespace(start=lambda _service, **given: given))


def play(out: io.StringIO) -> run._Play:
    console = Console(file=out, width=200)
    return run._Play(
        directory=None,
        planned=RELEASES,
        speed=20.0,
        rate=400.0,
        keep=False,
        output=PlainOutput(console),
        stories=[],
    )


async def test_a_shop_that_is_slow_for_a_moment_is_waited_for_and_that_is_said_once() -> None:
    out = io.StringIO()
    begun: Any = await play(out)._begun(Refusing(3), RELEASES[1])  # type: ignore[arg-type]
    assert (begun["version"], begun["env"]) == ("3", {"SHOP_FAULT": "errors:0.2"})
    assert out.getvalue().count("waiting for this machine to be less busy: shop: limit not attainable") == 1


async def test_a_shop_that_stays_slow_ends_the_demo_with_words_about_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("os.getloadavg", lambda: (23.8, 1.0, 1.0))
    with pytest.raises(Terminal) as ended:
        await play(io.StringIO())._begun(Refusing(1000), RELEASES[0])  # type: ignore[arg-type]
    assert "the load average here is 23.8 on " in ended.value.message
    assert "limit not attainable" in ended.value.message
    assert ended.value.remedy.startswith("end what else keeps this machine busy")
    assert "raise the limit" not in ended.value.remedy
