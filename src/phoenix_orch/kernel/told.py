"""A field for words of people, programs and libraries that are shown again later."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from phoenix_orch.kernel.masking import told

Told = Annotated[str, AfterValidator(told)]
"""One line without controls, with its addresses masked: made fit when it is written down, and once more
when it is read, since what was stored may be older."""
