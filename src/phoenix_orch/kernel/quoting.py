"""Lines of a configuration file as errors may show them. Pure.

Shown are keys, and values that the model knows and that are no secret. Environments, what is secret in
addresses and command lines, comments, and whatever stands where the model has no place for it are masked,
but for a number whose key is only misspelt: a line is put together from what is known to be harmless, not
by taking out what is not. Of a text that is no YAML nothing is known, and only the key at the begin of the
line is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from phoenix_orch.kernel import model_shape
from phoenix_orch.kernel.guess import did_you_mean
from phoenix_orch.kernel.masking import MASK, looks_secret, masked_words
from phoenix_orch.kernel.yaml_source import Mark, Node

ENVIRONMENT = "env"
"""The key of environments, wherever it stands."""
_STRUCTURE = frozenset("-?:,[]{}|>+")
_COMMENT = re.compile(r"(?:(?<=\s)|^)#.*")
_OUTLINE = re.compile(r"(\s*(?:- +)*)([A-Za-z_][A-Za-z0-9_.-]{0,62}\s*:(?=\s|$)\s*)?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Quote:
    """A line as it is shown, and where in it the stretch stands that is spoken of."""

    text: str
    column: int = 0
    width: int = 1


def outline(line: str, mark: Mark) -> Quote:
    """A line of a text that could not be read: its key and nothing else."""
    found = _OUTLINE.match(line)
    assert found is not None
    indent, key, rest = found.group(1), found.group(2) or "", found.group(3)
    known = indent + key
    if not rest.strip():
        return Quote(known.rstrip(), min(mark.column, len(known.rstrip())))
    return Quote(known + MASK, min(mark.column, len(known)))


class Quotes:
    """Quotes lines of a file that was read."""

    def __init__(self, root: Node, model: type[BaseModel]) -> None:
        self._shown: dict[int, set[Mark]] = {}
        self._masked: dict[int, set[Mark]] = {}
        self._secret: set[int] = set()
        self._visit(root, model)
        for node in _below(root):  # what two places lead to is secret if one of them is
            if id(node) in self._secret:
                self._mask(node)

    def is_secret(self, node: Node) -> bool:
        """The value is not to be shown, nor told in other words."""
        return id(node) in self._secret

    def line(self, text: str, mark: Mark) -> Quote:
        """What may be shown of one line, and where `mark` stands in it."""
        shown, column = "", None
        for begin, end, piece in self._pieces(text, mark.line):
            if begin <= mark.column < end:
                column = len(shown) + (mark.column - begin if piece == text[begin:end] else 0)
            shown += piece
        shown = shown.rstrip()
        column = len(shown) if column is None else min(column, len(shown))
        return Quote(shown, column, len(MASK) if shown.startswith(MASK, column) else mark.width)

    def _pieces(self, text: str, number: int) -> Iterator[tuple[int, int, str]]:
        """(begin, end, what is shown of it) of the line, up to a comment."""
        at, masked = 0, self._masked.get(number, set())
        known = sorted(self._shown.get(number, set()) | masked, key=_column)
        for one in (*known, Mark(number, len(text), 0)):
            gap = text[at : one.column]
            kept = _COMMENT.sub("", gap)
            for word in re.finditer(r"\s+|\S+", kept):
                piece = word.group()
                structure = piece.isspace() or set(piece) <= _STRUCTURE
                yield at + word.start(), at + word.end(), piece if structure else MASK
            if kept != gap:
                return
            end = one.column + one.width
            yield one.column, end, MASK if one in masked else text[one.column : end]
            at = end

    # -- what may be shown -----------------------------------------------------------------------

    def _visit(self, node: Node, annotation: Any) -> None:
        content = node.content
        if isinstance(content, dict):
            for key, (mark, child) in content.items():
                self._show(mark)
                inside = model_shape.inside(annotation, key)
                if key == ENVIRONMENT:
                    self._environment(child)
                elif inside is None and not _is_misspelt(annotation, key, child):
                    self._hide(child)
                elif inside is None:
                    self._show(child.mark)
                else:
                    self._visit(child, inside)
        elif isinstance(content, list):
            hidden = _hidden_words(content)
            for index, child in enumerate(content):
                if index in hidden:
                    self._hide(child)
                else:
                    self._visit(child, model_shape.inside(annotation, index))
        elif (isinstance(content, str) and _looks_secret(content)) or annotation is None:
            self._hide(node)
        else:
            self._show(node.mark)

    def _environment(self, node: Node) -> None:
        """Names are shown, values are not; what is no mapping of names to values is not shown at all."""
        self._hide(node)
        if isinstance(node.content, dict):
            self._secret.discard(id(node))
            for key, (mark, _) in node.content.items():
                if is_variable(key):
                    self._show(mark)

    def _hide(self, node: Node) -> None:
        for one in _below(node):
            self._secret.add(id(one))

    def _show(self, mark: Mark) -> None:
        if mark.width:
            self._shown.setdefault(mark.line, set()).add(mark)

    def _mask(self, node: Node) -> None:
        """Its text, if it has one, and its keys. A value that was left out stands where its key does."""
        content = node.content
        if isinstance(content, dict):
            marks = [mark for mark, _ in content.values()]
        else:
            marks = [] if content is None or isinstance(content, list) else [node.mark]
        for mark in marks:
            self._shown.get(mark.line, set()).discard(mark)
            self._masked.setdefault(mark.line, set()).add(mark)


def _is_misspelt(annotation: Any, key: str, node: Node) -> bool:
    """A number, or yes or no, at a key that was meant to be one of the model's, where such values are no
    secrets: not below an environment, which the model knows nothing of, and not by a secret's name."""
    if not isinstance(node.content, bool | int | float) or looks_secret(key):
        return False
    meant = did_you_mean(key, model_shape.keys(model_shape.bare(annotation)))
    return bool(meant) and meant != ENVIRONMENT and not looks_secret(meant)


def is_variable(name: str) -> bool:
    """It can be the name of a variable: neither empty, nor with a `=` or a zero byte."""
    return bool(name) and "=" not in name and "\0" not in name


def _below(node: Node) -> Iterator[Node]:
    yield node
    content = node.content
    children = [child for _, child in content.values()] if isinstance(content, dict) else content
    for child in children if isinstance(children, list) else ():
        yield from _below(child)


def _hidden_words(nodes: Sequence[Node]) -> frozenset[int]:
    """Which words of a list, taken as a command line, are secret."""
    words = [node.content if isinstance(node.content, str) else "" for node in nodes]
    shown = masked_words(words)
    return frozenset(index for index, word in enumerate(words) if shown[index] != word)


def _looks_secret(text: str) -> bool:
    words = text.split()
    return masked_words(words) != tuple(words) or masked_words([text]) != (text,)


def _column(mark: Mark) -> int:
    return mark.column
