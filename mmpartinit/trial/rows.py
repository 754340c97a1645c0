"""The parts of a network, as rows that one screen has room for."""

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

from .drift import PartDrift, largest

_FEW = 6


@dataclass
class Row:
    """Parts under one path, in the order of computation.

    Attributes:
        label (str): The path.
        parts (list[PartDrift]): What is at or under it.
    """

    label: str
    parts: List[PartDrift]

    @property
    def worst(self) -> PartDrift:
        """The first part that departs, or else the one that is furthest."""
        departing = [part for part in self.parts if part.departs]
        key = [part.drift or 0.0 for part in self.parts]
        return (departing or [self.parts[key.index(max(key))]])[0]

    @property
    def drift(self) -> Optional[float]:
        """The largest of its parts."""
        return largest([part.drift for part in self.parts])

    @property
    def before(self) -> Optional[float]:
        """The largest of its parts, before rules wrote anything."""
        return largest([part.before for part in self.parts])


def to_rows(parts: Sequence[PartDrift], most: int) -> List[Row]:
    """At most so many rows, unless the model itself has more parts; those with
    many parts in them are split further, all of a level or none.
    """
    rows = _split(Row('', list(parts))) if parts else []
    # What has few parts is read as one where not all can be seen.
    few = 1 if len(parts) <= most else _FEW
    while any(len(row.parts) > few for row in rows):
        inner: List[Row] = []
        for row in rows:
            inner += _split(row) if len(row.parts) > few else [row]
        if len(inner) > max(most, len(rows)):
            break
        rows = inner
    return rows


def _split(row: Row) -> List[Row]:
    """What is one segment of the paths further down."""
    depth = row.label.count('.') + 2 if row.label else 1
    found: Dict[str, Row] = {}
    for part in row.parts:
        label = '.'.join(part.path.split('.')[:depth])
        found.setdefault(label, Row(label, [])).parts.append(part)
    return list(found.values())
