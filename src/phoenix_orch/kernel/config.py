"""Configuration files: every error at its line, with what was found, what is allowed, and a guess.

A file is read as a whole, checked as a whole, and either gives one valid model or one `ConfigError`
that names everything wrong with it. Environment variables are never put into it: what is in the file
is what runs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from phoenix_orch.kernel import model_shape
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.guess import did_you_mean
from phoenix_orch.kernel.masking import MASK, masked_text
from phoenix_orch.kernel.quoting import ENVIRONMENT, Quote, Quotes, outline
from phoenix_orch.kernel.text import plain
from phoenix_orch.kernel.yaml_source import Mark, Node, YamlFault, parse

M = TypeVar("M", bound=BaseModel)
Loc = tuple[int | str, ...]

IN_FULL = 3
"""Errors shown with their source line; the rest take one line each, so that a screen holds them."""
IN_ALL = 12


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong. Line and column count from 1; 0 where there is no line to show."""

    line: int
    column: int
    field: str
    message: str
    found: str = ""
    allowed: str = ""
    suggestion: str = ""
    quote: Quote | None = None
    """The line of the file, as far as it may be shown."""

    def headline(self, name: str) -> str:
        """`file:line:column: field: message`, as compilers write it, so that editors can jump there."""
        place = f"{name}:{self.line}:{self.column}" if self.line else name
        guess = f"; did you mean {self.suggestion!r}?" if self.suggestion else ""
        return plain(": ".join(part for part in (place, self.field, self.message + guess) if part))

    def detail(self) -> list[str]:
        lines = []
        if self.quote is not None:
            gutter = f"{self.line:>5} | "
            shown, start = _window(self.quote.text, self.quote.column)
            caret = "^" * max(1, min(self.quote.width, len(shown) - start))
            lines += [f"{gutter}{shown}", f"{' ' * (len(gutter) - 2)}| {' ' * start}{caret}"]
        if self.found:
            lines.append(plain(f"        found: {self.found}"))
        if self.allowed:
            lines.append(plain(f"      allowed: {self.allowed}"))
        return lines


class ConfigError(Invalid):
    """Everything wrong with one file. `str()` and `render()` show it on one screen."""

    code: ClassVar[str] = "config"

    def __init__(self, name: str, problems: Sequence[Problem], *, remedy: str = "") -> None:
        self.name = name
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__(
            self.render(),
            remedy=remedy or "mend the file; `phoenix validate -f FILE` checks it and changes nothing",
        )

    def render(self, in_full: int = IN_FULL, in_all: int = IN_ALL) -> str:
        """All of it as text: the first errors with their lines, the others in a line each."""
        count = len(self.problems)
        lines = [plain(f"{self.name} has {count} error{'s' if count > 1 else ''}")]
        for number, problem in enumerate(self.problems[:in_all]):
            lines.append(problem.headline(self.name))
            if number < in_full:
                lines += problem.detail()
        if count > in_all:
            lines.append(f"... and {count - in_all} more")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """The text of one file and where its values stand."""

    name: str
    lines: tuple[str, ...]
    root: Node

    def mark(self, loc: Loc, *, key: bool = False) -> tuple[Mark, Node]:
        """Where `loc` stands (its key with `key`), or the nearest thing around it that exists."""
        node, mark = self.root, self.root.mark
        for depth, part in enumerate(loc):
            content = node.content
            if isinstance(content, dict) and part in content:
                key_mark, node = content[part]
                block = isinstance(node.content, dict | list) and node.mark.line != key_mark.line
                at_key = block or (key and depth == len(loc) - 1)
                mark = key_mark if at_key else node.mark
            elif isinstance(content, list) and isinstance(part, int) and part < len(content):
                node = content[part]
                mark = node.mark
            elif not _is_noise(part):
                break
        return mark, node

    def narrowed(self, mark: Mark, node: Node, part: str) -> Mark:
        """Where `part` stands in the text of the node, or of the first one below it that holds it."""
        for place, text in _texts(node):
            if part not in text:
                continue
            line = self.lines[place.line] if place.line < len(self.lines) else ""
            column = line.find(part, place.column)
            return place if column < 0 else Mark(place.line, column, len(part))
        return mark

    def problem(
        self, mark: Mark, field: str, message: str, *, quotes: Quotes | None = None, **more: str
    ) -> Problem:
        """A problem at `mark`. `quotes` say what may be shown of the file; without them that is keys."""
        line = self.lines[mark.line] if mark.line < len(self.lines) else ""
        quote = quotes.line(line, mark) if quotes is not None else outline(line, mark)
        return Problem(
            line=mark.line + 1,
            column=mark.column + 1,
            quote=quote if line else None,
            field=field,
            message=message,
            **more,
        )


def _texts(node: Node) -> Iterator[tuple[Mark, str]]:
    """Every text of the node and below it, in the order of the file."""
    content = node.content
    if isinstance(content, str):
        yield node.mark, content
    below = [child for _, child in content.values()] if isinstance(content, dict) else content
    for child in below if isinstance(below, list) else ():
        yield from _texts(child)


def parsed(name: str, text: str) -> Source:
    """The text of a YAML file with its places. Raises ConfigError where it is none, or empty."""
    lines = tuple(text.splitlines())
    try:
        root = parse(text)
    except YamlFault as fault:
        empty = Source(name, lines, Node(fault.mark, None))
        problem = empty.problem(fault.mark, "", fault.message, allowed=fault.allowed)
        raise ConfigError(name, [problem]) from None
    if root is None:
        raise ConfigError(
            name, [Problem(0, 0, "", "the file is empty")], remedy="`phoenix init` writes one to start from"
        )
    return Source(name, lines, root)


def validate(source: Source, model: type[M]) -> M:
    """The file as a model. Raises ConfigError with everything pydantic found, at its place.

    Types are taken strictly (`true` is no 1, `"3"` no 3), keys only as they are documented.
    """
    if not isinstance(source.root.content, dict):
        problem = source.problem(
            source.root.mark,
            "",
            "the file is no mapping of keys to values",
            found="a list" if isinstance(source.root.content, list) else "a single value",
            allowed=", ".join(model_shape.keys(model)),
        )
        raise ConfigError(source.name, [problem])
    try:
        text = json.dumps(source.root.plain)
        return model.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        quotes = Quotes(source.root, model)
        problems = [_problem(source, quotes, model, details) for details in error.errors(include_url=False)]
        raise ConfigError(source.name, _distinct(problems)) from None


def field_path(loc: Loc) -> str:
    """`rollouts.web.phases[0].weight`. Of what was meant as `NAME=value` only the name is told."""
    text, before = "", None
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not _is_noise(part):
            word = part.partition("=")[0] if before == ENVIRONMENT else part
            text += f".{word}" if text and word else word
        before = part
    return text


def _problem(source: Source, quotes: Quotes, model: type[BaseModel], details: ErrorDetails) -> Problem:
    loc, kind = details["loc"], details["type"]
    if kind == "extra_forbidden":
        return _unknown_key(source, quotes, loc, model_shape.keys(model_shape.at(model, loc[:-1])))
    if kind == "missing":
        mark, _ = source.mark(loc[:-1])
        message = f"the key {loc[-1]!r} is missing"
        return source.problem(mark, field_path(loc), message, quotes=quotes, allowed="it is required")
    if loc and loc[-1] == "[key]":
        mark, _ = source.mark(loc[:-1], key=True)
        message, allowed = model_shape.explain(details, None)
        found = "" if ENVIRONMENT in loc[:-2] else _found(loc[-2])
        return source.problem(mark, field_path(loc), message, quotes=quotes, found=found, allowed=allowed)
    mark, node = source.mark(loc)
    message, allowed = model_shape.explain(details, model_shape.field(model, loc))
    context = details.get("ctx", {})
    value, known = node.plain, context.get("allowed", ())
    part = context.get("found")
    if part:
        value, mark = part, source.narrowed(mark, node, part)
    secret = quotes.is_secret(node) and not part
    whole = isinstance(value, dict | list) and not kind.endswith("_type")
    return source.problem(
        mark,
        field_path(loc),
        masked_text(message),
        quotes=quotes,
        found="" if whole else _hidden(value) if secret else _found(value),
        allowed="; ".join(
            part for part in (allowed or ", ".join(known), _hint(node, kind, secret=secret)) if part
        ),
        suggestion=did_you_mean(value, model_shape.choices(details) or context.get("names", known))
        if isinstance(value, str)
        else "",
    )


def _unknown_key(source: Source, quotes: Quotes, loc: Loc, known: Sequence[str]) -> Problem:
    key = str(loc[-1])
    mark, _ = source.mark(loc, key=True)
    return source.problem(
        mark,
        field_path(loc),
        "unknown key",
        quotes=quotes,
        found=key,
        allowed=", ".join(known),
        suggestion=did_you_mean(key, known),
    )


def _hint(node: Node, kind: str, *, secret: bool) -> str:
    """What a person very likely meant with a value of another type."""
    if kind != "string_type":
        return ""
    content = node.content
    if isinstance(content, bool | int | float):
        return "write it in quotes" if secret else f'write it in quotes: "{_found(content)}"'
    if isinstance(content, dict) and len(content) == 1 and next(iter(content.values()))[1].content is None:
        if secret:
            return "braces make a mapping in YAML; write it in quotes"
        word = next(iter(content))
        return f'braces make a mapping in YAML; write it in quotes: "{{{word}}}"'
    return ""


def _found(value: object) -> str:
    """A value as the file has it, short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping with " + (", ".join(list(value)[:4]) or "no keys")
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = masked_text(value) if isinstance(value, str) else json.dumps(value)
    text = text if text.isprintable() else json.dumps(text)
    if value == "":
        return '"" (empty)'
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hidden(value: object) -> str:
    """What may be told of a value that is not to be shown."""
    if value is None or value == "" or isinstance(value, list):
        return _found(value)
    return "a mapping" if isinstance(value, dict) else MASK


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    """One problem per place and message, since unions report each of their branches; and no list that is
    too short only because its items are wrong."""
    wrong = {problem.field.rpartition("[")[0] for problem in problems} | {
        problem.field.split("[")[0] for problem in problems if "[" in problem.field
    }
    problems = [p for p in problems if p.message != model_shape.TOO_FEW or p.field not in wrong]
    return list({(p.line, p.column, p.field, p.message): p for p in problems}.values())


def _is_noise(part: int | str) -> bool:
    """Parts of pydantic's locations that stand for no key of the file."""
    return isinstance(part, str) and (part == "[key]" or part.startswith("function-") or "[" in part)


def _window(line: str, column: int) -> tuple[str, int]:
    """At most 90 characters of the line around the column, and the column within them."""
    line = "".join(character if character.isprintable() else " " for character in line)
    if len(line) <= 90:
        return line, column
    begin = max(0, min(column - 30, len(line) - 90))
    return line[begin : begin + 90], column - begin
