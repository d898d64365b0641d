"""Rules for the API server in CEL, its expression language, and the pieces they are made of.

The API server sums up what a rule costs at most before it takes a definition, so these pieces have no loops
over what `findAll` or `split` give: how much that is, it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix_orch.kernel.units import DURATION_PATTERN, LONGEST

_PLACE = r"\{[A-Za-z][A-Za-z0-9_-]*\}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What has to be true of `self`, and what is said when it is not."""

    holds: str
    message: str
    says: str = ""
    """An expression for the message, which can show the value; `message` is said where it fails."""

    def as_schema(self) -> dict[str, Any]:
        """One entry of `x-kubernetes-validations`."""
        shown = {"messageExpression": self.says} if self.says else {}
        return {"rule": self.holds, **shown, "message": self.message}


def matches(text: str, pattern: str) -> str:
    """Expression: the text matches the pattern."""
    return f"{text}.matches({raw(pattern)})"


def raw(text: str) -> str:
    """A string literal without escapes."""
    assert "'" not in text
    return f"r'{text}'"


def any_of(words: Iterable[str]) -> str:
    """A list of words."""
    return "[" + ", ".join(f"'{word}'" for word in words) + "]"


def seconds(text: str) -> str:
    """Expression: seconds of a text that matches DURATION_PATTERN; CEL itself knows no days."""
    days = f"({text}.contains('d') ? double({text}.substring(0, {text}.indexOf('d'))) * 86400.0 : 0.0)"
    rest = f"{text}.substring({text}.indexOf('d') + 1)"
    return f"({days} + ({text}.endsWith('d') ? 0.0 : double(duration({rest}).getMilliseconds()) / 1000.0))"


def duration() -> Rule:
    """A text is a duration that `parse_duration` takes."""
    well = matches("self", DURATION_PATTERN)
    hint = "is not a duration; write a number and a unit, the largest first: 100ms, 30s, 10m, 1h30m"
    return Rule(
        f"{well} && {seconds('self')} <= {LONGEST.total_seconds()}",
        f"this {hint}",
        f"self + ({well} ? ' is longer than ten years' : ' {hint}')",
    )


def well_formed(*texts: str) -> str:
    """Expression: all are durations. A rule that counts with them says nothing where one is not."""
    return " && ".join(matches(text, DURATION_PATTERN) for text in texts)


def placeholders(text: str, known: Sequence[str]) -> Rule:
    """A text has no placeholder but the known ones: what `kernel.placeholders` finds.

    A word in braces stands for something unless a `$` is before it, or it is in double braces. Known ones
    are taken out first, and a sign put in their place, so that what is around them does not grow together.
    """
    left = text + "".join(f".replace('{{{word}}}', '!')" for word in known)
    unknown = rf"(^|[^${{]){_PLACE}|\{{{_PLACE}([^}}]|$)"
    names = ", ".join(f"{{{word}}}" for word in known)
    return Rule(
        f"!{matches(left, unknown)}",
        f"a placeholder that means nothing; allowed: {names}, or {{{{word}}}} for the text {{word}}",
    )
