"""A log that cannot be written stops nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata


def test_a_log_on_a_full_disk_and_a_closed_pipe_raise_nothing() -> None:
    code = (
        "import structlog; from phoenix_orch.runtime.logs import configure_logs; configure_logs();"
        "log = structlog.get_logger('x'); [log.warning('line') for n in range(2000)]; print('alive')"
    )
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.stdout == b"alive\n"


CANARY = "s3cr3tCanary"
PROGRAM = """
import os

import structlog
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.runtime.logs import configure_logs

configure_logs()
log = structlog.get_logger("x")
secret = os.environ["CANARY"]  # tracebacks show lines of -c from Python 3.13 on


def careless(environment):
    password = environment["DB"]
    address = "http://user:" + password + "@host/?token=" + password
    raise RuntimeError(address + " \\x1b[31mis away\\x1b[0m\\nerror: forged")


try:
    careless({"DB": secret})
except RuntimeError as error:
    Faults(log).tell("shop", "store", error=error, unforeseen=True)
    log.warning("away \\x1b]0;title\\x07\\nerror: forged", exc_info=True, where="http://u:" + secret + "@h/",
                several=["http://u:" + secret + "@h/", {"a\\x1b": ("\\u202e", 1)}], error=error)
    log.exception("once more")
"""


def logged(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CANARY": CANARY},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


def test_a_defect_is_logged_with_its_place_and_without_its_values() -> None:
    shown = logged(PROGRAM)
    assert CANARY not in shown
    assert shown.count("Traceback (most recent call last)") == 3
    assert "in careless" in shown
    assert "http://<masked>@host/?token=<masked> is away" in shown


def test_no_log_line_steers_a_terminal_or_looks_like_another() -> None:
    shown = logged(PROGRAM)
    assert [c for c in shown if unicodedata.category(c) in {"Cc", "Cf"} and c != "\n"] == []
    assert not [line for line in shown.splitlines() if line.startswith("error: forged")]
