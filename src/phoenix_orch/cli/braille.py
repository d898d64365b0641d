"""A small canvas of braille dots, two across and four down in each character cell. Pure.

Dots belong to layers. A cell shows the dots of all layers and the colour of the topmost one in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800
ACROSS, DOWN = 2, 4

Place = tuple[float, float]
"""Across from the left and up from the bottom, both 0..1."""


@dataclass(slots=True)
class Canvas:
    """`columns` by `rows` character cells."""

    columns: int
    rows: int
    _cells: dict[tuple[int, int], int] = field(default_factory=dict)
    _layers: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return self.columns * ACROSS

    @property
    def height(self) -> int:
        return self.rows * DOWN

    def dot(self, x: int, y: int, layer: int) -> None:
        """One dot, counted from the left and from the top; outside of the canvas it is lost."""
        if not (0 <= x < self.width and 0 <= y < self.height):
            return
        cell = (x // ACROSS, y // DOWN)
        self._cells[cell] = self._cells.get(cell, 0) | _DOTS[y % DOWN][x % ACROSS]
        self._layers[cell] = max(layer, self._layers.get(cell, layer))

    def line(self, places: Sequence[Place], layer: int, *, gap: int = 0) -> None:
        """A line from place to place; `gap`: only every so many dots."""
        column = [self._at(place) for place in places]
        for (x0, y0), (x1, y1) in pairwise(column):
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            for step in range(steps + 1):
                x = x0 + round((x1 - x0) * step / steps)
                y = y0 + round((y1 - y0) * step / steps)
                if gap == 0 or x % gap == 0:
                    self.dot(x, y, layer)

    def band(self, lower: Sequence[Place], upper: Sequence[Place], layer: int, *, every: int) -> None:
        """What lies between two lines, one dot in `every`."""
        bottoms, tops = self._by_column(lower), self._by_column(upper)
        for x, top in tops.items():
            for y in range(top, bottoms.get(x, top) + 1):
                if (x + 2 * y) % every == 0:
                    self.dot(x, y, layer)

    def text(self) -> list[list[tuple[str, int | None]]]:
        """Rows of (character, layer) from the top; None where nothing is drawn."""
        return [
            [
                (chr(_BLANK + self._cells[x, y]), self._layers[x, y])
                if (x, y) in self._cells
                else (" ", None)
                for x in range(self.columns)
            ]
            for y in range(self.rows)
        ]

    def _at(self, place: Place) -> tuple[int, int]:
        across, up = (min(1.0, max(0.0, part)) for part in place)
        return round(across * (self.width - 1)), round((1 - up) * (self.height - 1))

    def _by_column(self, places: Sequence[Place]) -> dict[int, int]:
        """The height of the line over every column that it passes."""
        found: dict[int, int] = {}
        column = [self._at(place) for place in places]
        for (x0, y0), (x1, y1) in pairwise(column):
            for x in range(x0, x1 + 1):
                share = (x - x0) / (x1 - x0) if x1 > x0 else 1.0
                found[x] = math.floor(y0 + (y1 - y0) * share + 0.5)
        return found
