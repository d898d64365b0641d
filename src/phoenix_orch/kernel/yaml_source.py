"""YAML text as plain data that remembers where every key and value stood.

The YAML 1.2 core schema and nothing beyond it: `yes`, `on` and `2026-01-01` are text, `0o14` is a
number, no tag makes an object. Duplicate keys, several documents, merge keys and aliases to oneself
are refused. Size, depth and the number of values after aliases are expanded are bounded, so no file
can make Phoenix slow or large.

The tree is built from the parser's events: that is the one place where depth can be bounded before
anything recurses. (ruamel's parser in Python reads about 140 kB a second here; a large phoenix.yaml
has 20 kB.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000
"""Values in the whole document, aliases counted with all they stand for."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_OCTAL = re.compile(r"0o[0-7]{1,20}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*|(?=[eE])))([eE][-+]?[0-9]{1,4})?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})
_QUOTED = re.compile(r"'(?!<)[^']{2,}'")
"""What the parser quotes of the text; it may be a secret. Names of what it expected are in <>."""
_CORE = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of one line of the source. Line and column count from 0. A value left out is 0 wide."""

    line: int
    column: int
    width: int = 1


class YamlFault(Exception):
    """The text is no YAML that Phoenix reads, and where. Nothing but keys is repeated of it: whatever it
    was meant to be may be a secret."""

    def __init__(self, mark: Mark, message: str, allowed: str = "") -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message
        self.allowed = allowed


@dataclass(slots=True)
class Node:
    """One value. `content` is a scalar, a list of nodes, or key → (mark of the key, node)."""

    mark: Mark
    content: Any
    size: int = 1
    open: bool = field(default=False)
    """Still being read: an alias to it would hold itself."""

    @property
    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.content, dict):
            return {key: node.plain for key, (_, node) in self.content.items()}
        if isinstance(self.content, list):
            return [node.plain for node in self.content]
        return self.content


def parse(text: str) -> Node | None:
    """The one document in `text`; None when there is nothing in it. Raises YamlFault."""
    if len(text) > MAX_CHARACTERS:
        raise YamlFault(
            Mark(0, 0),
            f"the file has {len(text):,} characters",
            f"at most {MAX_CHARACTERS:,}",
        )
    try:
        return _Builder(YAML(typ="safe", pure=True).parse(text)).document()
    except MarkedYAMLError as error:
        raise _translated(error) from None
    except ReaderError as error:
        raise _unreadable(text, error) from None
    except (YAMLError, ValueError, OverflowError) as error:
        raise YamlFault(Mark(0, 0), f"not YAML: {str(error).splitlines()[0]}") from None


def _translated(error: MarkedYAMLError) -> YamlFault:
    mark = error.problem_mark or error.context_mark
    where = Mark(mark.line, mark.column) if mark else Mark(0, 0)
    problem = (error.problem or "not YAML").strip()
    if "\\t" in problem:
        return YamlFault(where, "a tab where YAML wants spaces", "spaces for indentation")
    if "<block end>" in problem:
        return YamlFault(where, "this does not fit the indentation of the lines above", "equal indentation")
    problem = _QUOTED.sub("'…'", problem)
    if error.context and error.context_mark:
        problem = f"{problem} ({error.context.strip()} that began on line {error.context_mark.line + 1})"
    return YamlFault(where, f"not YAML: {problem}")


def _unreadable(text: str, error: ReaderError) -> YamlFault:
    before = text[: error.position]
    line = before.count("\n")
    column = len(before) - (before.rfind("\n") + 1)
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "?")
    return YamlFault(
        Mark(line, column), f"the character U+{code:04X} may not stand in YAML", "printable text"
    )


def scalar(text: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema; a number too long to be meant as one stays text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    if text in _NAN:
        return math.nan
    return text


class _Builder:
    """Makes nodes from events, by recursion no deeper than MAX_DEPTH."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def document(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise YamlFault(_mark(event), "a second document in the file", "one document")
            elif not isinstance(event, DocumentEndEvent) and _is_value(event):
                root = self._node(event, 1)
        if root is not None and root.content is None:
            return None
        return root

    def _node(self, event: Event, depth: int) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event)
        if depth > MAX_DEPTH:
            raise YamlFault(_mark(event), f"nested deeper than {MAX_DEPTH} levels", f"at most {MAX_DEPTH}")
        node = Node(_mark(event), None, open=True)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self._anchors[anchor] = node
        if isinstance(event, ScalarEvent):
            node.content = _scalar_content(event)
        elif isinstance(event, SequenceStartEvent):
            _check_tag(event, "seq")
            self._sequence(node, depth)
        else:
            _check_tag(event, "map")
            self._mapping(node, depth)
        node.open = False
        self._count(node.mark, 1)
        return node

    def _alias(self, event: AliasEvent) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise YamlFault(
                _mark(event),
                "this alias is not defined above this line",
                "quotes around a text that begins with *",
            )
        if node.open:
            raise YamlFault(_mark(event), "this alias holds itself", "an alias to something else")
        self._count(_mark(event), node.size)
        return node

    def _count(self, mark: Mark, more: int) -> None:
        self._nodes += more
        if self._nodes > MAX_NODES:
            raise YamlFault(
                mark, f"more than {MAX_NODES:,} values, with what aliases stand for", f"at most {MAX_NODES:,}"
            )

    def _sequence(self, node: Node, depth: int) -> None:
        node.content = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                return
            item = self._node(event, depth + 1)
            node.content.append(item)
            node.size += item.size

    def _mapping(self, node: Node, depth: int) -> None:
        node.content = {}
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                return
            key = _key(event)
            mark = _mark(event)
            if key in node.content:
                first = node.content[key][0].line + 1
                raise YamlFault(mark, f"this key stands here a second time (first on line {first})")
            value = self._node(next(self._events), depth + 1)
            if value.content is None and value.mark.width == 0:
                value.mark = mark
            node.content[key] = (mark, value)
            node.size += value.size


def _is_value(event: Event) -> bool:
    return isinstance(event, ScalarEvent | AliasEvent | SequenceStartEvent | MappingStartEvent)


def _key(event: Event) -> str:
    if not isinstance(event, ScalarEvent):
        raise YamlFault(_mark(event), "a key that is not a plain word", "a word, a colon, a value")
    key = _text(event)
    if key == "<<" and event.style is None:
        raise YamlFault(
            _mark(event), "merge keys (<<) are not part of YAML 1.2", "an alias, or the keys in full"
        )
    return key


def _text(event: ScalarEvent) -> str:
    """The scalar's text. JSON writes characters beyond 16 bits as two escapes, which belong together;
    half of such a pair is no character."""
    text = str(event.value)
    if text.isascii():
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise YamlFault(_mark(event), "an escape that is no character", "whole characters") from None


def _scalar_content(event: ScalarEvent) -> Any:
    tag, text = _tag(event), _text(event)
    if tag is None:
        return scalar(text) if event.style is None else text
    if tag in ("str", "!"):
        return text
    if tag not in ("int", "float", "bool", "null"):
        _check_tag(event, "str")
    return scalar(text)


def _tag(event: Event) -> str | None:
    """The tag without YAML's own prefix; None where the text has none."""
    tag = getattr(event, "tag", None)
    return None if tag is None else str(tag).removeprefix(_CORE)


def _check_tag(event: Event, allowed: str) -> None:
    tag = _tag(event)
    if tag not in (None, allowed):
        raise YamlFault(
            _mark(event),
            "a tag has no meaning here",
            "values without tags; quotes around a text that begins with !",
        )


def _mark(event: Event) -> Mark:
    start, end = event.start_mark, event.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Mark(start.line, start.column, max(0, width))
