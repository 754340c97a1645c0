"""Which parts of a model are the rows of a figure: stages or blocks where
rules write, and as few as can be elsewhere.
"""

import os.path
import re
from typing import Collection, Dict, List, NamedTuple, Sequence

from .records import RuleRecord, TensorRecord

_MOST_ROWS = 12
_FEW = 3  # rows for parts that are small, or in which no rule writes
_LEAST = 10  # tensors, which are not split
_SMALL = 30  # tensors, which are split where several of their parts are mixed
_LARGE = 100  # tensors that are split for their number alone
_MOST_LETTERS = 40  # of a label that lists names
_LOADED = ('file', 'code')


class Row(NamedTuple):
    """Tensors of a part of the model, or of several, under one label."""

    label: str
    tensors: List[TensorRecord]


def with_own_start(
    tensors: Sequence[TensorRecord], rules: Sequence[RuleRecord]
) -> List[TensorRecord]:
    """Those tensors of a report of which it matters where they start.

    Counters of batches are left out, and so are the running statistics of a
    new norm that a rule covers: they are at 0 and 1 as in any new norm, and
    its weight stands for them. Where the norm was loaded without them, they
    stay.
    """
    covered = {path for rule in rules for path in rule.matched}
    loaded = {_parent(t.name) for t in tensors if t.origin in _LOADED}

    def follows(tensor: TensorRecord) -> bool:
        return (
            tensor.origin == 'built'
            and is_statistic(tensor)
            and _parent(tensor.name) not in loaded
            and _is_under(tensor.name, covered)
        )

    return [
        tensor
        for tensor in tensors
        if not tensor.name.endswith('num_batches_tracked')
        and not follows(tensor)
    ]


def is_statistic(tensor: TensorRecord) -> bool:
    """Whether it is a mean or a variance that a norm measures."""
    return tensor.name.rpartition('.')[2].startswith('running_')


def choose_rows(tensors: Sequence[TensorRecord]) -> List[Row]:
    """Put tensors into 12 rows at most, in the model's order.

    What rules wrote decides; without rules, what is new. Parts that hold some
    of it are split until each row has about as much of it, together with the
    loaded tensors of the same blocks; what else such a part holds is one row.
    Of the other parts, those that were loaded have few rows, and all that was
    neither loaded nor written shares the last.
    """
    origins = {tensor.origin for tensor in tensors}
    told = _Told(
        known=origins & {'file', 'rule'} or origins,
        deciding=origins & {'rule'} or origins.difference(_LOADED) or origins,
    )
    members = [_Member(i, t, t.name.split('.')) for i, t in enumerate(tensors)]
    top = _Part('', 0, members, told)
    while len(top.parts) == 1:
        below = top.parts[0].parts
        if len(below) > _MOST_ROWS or not any(part.parts for part in below):
            break
        top = top.parts[0]
    left = [_Group(p.path, [p]) for p in top.parts if not p.is_known]
    known = [part for part in top.parts if part.is_known]
    telling = [part for part in known if part.weight]
    fair = top.weight / _MOST_ROWS
    large = [part for part in telling if part.weight >= fair] or telling
    groups = _few([part for part in telling if part not in large])
    groups += _few([part for part in known if not part.weight])
    split = _split(large, _MOST_ROWS - len(groups) - bool(left))
    groups += [group for group in split if group.is_known]
    left += [group for group in split if not group.is_known]
    groups.sort(key=lambda group: group.parts[0].place)
    if left:
        groups.append(_joined(left))
    return [
        Row(group.label, [t for part in group.parts for t in part.tensors])
        for group in groups
    ]


class _Told(NamedTuple):
    """Which origins say something of a part, and which decide on rows."""

    known: Collection[str]
    deciding: Collection[str]


class _Member(NamedTuple):
    """A tensor with its place in the model and the segments of its name."""

    place: int
    tensor: TensorRecord
    segments: List[str]


class _Part:
    """A module or a tensor, with how much in it decides on rows."""

    def __init__(
        self, path: str, depth: int, members: List[_Member], told: _Told
    ) -> None:
        self.path, self.depth, self.told = path, depth, told
        self.kind = re.sub(r'\d+', '#', path)  # as its neighbours in a list
        self.members = members
        self.tensors = [member.tensor for member in members]
        origins = [tensor.origin for tensor in self.tensors]
        self.weight = sum(origin in told.deciding for origin in origins)
        # Formulas are put in by code too; they are few.
        put_in = 4 * origins.count('code') > len(origins)
        self.is_known = put_in or any(o in told.known for o in origins)
        # New tensors beside loaded ones: what is to be seen together.
        has_loaded = any(origin in _LOADED for origin in origins)
        self.is_mixed = has_loaded and 0 < self.weight < len(origins)
        self._parts: List[_Part] = []

    @property
    def place(self) -> int:
        """Place of its first tensor in the model."""
        return self.members[0].place

    @property
    def parts(self) -> List['_Part']:
        """What it consists of, one segment of the names further down."""
        if not self._parts:
            found: Dict[str, List[_Member]] = {}
            for member in self.members:
                path = '.'.join(member.segments[: self.depth + 1])
                found.setdefault(path, []).append(member)
            if list(found) != [self.path]:
                self._parts = [
                    _Part(path, self.depth + 1, members, self.told)
                    for path, members in found.items()
                ]
        return self._parts

    @property
    def is_split(self) -> bool:
        """Whether there is more to see in its parts than in it as a whole."""
        size = len(self.members)
        if size <= _LEAST:
            return False
        mixed = [part for part in self.parts if part.is_mixed]
        if len(mixed) == 1 and size <= _SMALL:
            return mixed[0].is_split
        return bool(mixed) or size > _LARGE


class _Group(NamedTuple):
    """Parts that share a row."""

    label: str
    parts: List[_Part]

    @property
    def is_known(self) -> bool:
        """Whether anything in it was loaded or written."""
        return any(part.is_known for part in self.parts)


def _split(parts: Sequence[_Part], most: int) -> List[_Group]:
    """Split parts that hold what decides as far as so many groups allow, into
    groups of about the same weight.
    """
    total = sum(part.weight for part in parts)
    weight = 1
    while True:
        groups: List[_Group] = []
        for part in parts:
            rest: List[_Part] = []
            groups += [_range(run) for run in _runs(part, weight, rest)]
            groups += [_rest(rest)] if rest else []
        if len(groups) <= most or weight >= total:
            break
        weight += 1 + weight // 8
    if len(groups) <= most:
        return groups
    # No part was split: there are too many at the top of the model.
    bounds = [round(i * len(parts) / most) for i in range(most + 1)]
    return [_range(parts[a:b]) for a, b in zip(bounds, bounds[1:])]


def _runs(part: _Part, weight: int, rest: List[_Part]) -> List[List[_Part]]:
    """A part as runs of neighbours, each of at most so much weight where that
    can be. What has none, and is not within a run, goes to the rest.
    """
    if part.weight <= weight or not part.is_split:
        return [[part]]
    runs: List[List[_Part]] = []
    between: List[_Part] = []  # without weight, after the last run
    room = 0  # of the last run, for parts that are numbered as it is
    for child in part.parts:
        if not child.weight:
            between.append(child)
            continue
        below = _runs(child, weight, rest)
        is_whole = below == [[child]]
        fits = is_whole and child.weight <= room
        if fits and child.kind == runs[-1][0].kind:
            runs[-1] += [p for p in between if p.kind == child.kind]
            runs[-1].append(child)
            rest += [p for p in between if p.kind != child.kind]
            room -= child.weight
        else:
            runs += below
            rest += between
            room = weight - child.weight if is_whole else 0
        between = []
    rest += between
    return runs


def _range(run: Sequence[_Part]) -> _Group:
    """Neighbours, as the first and the last of them."""
    label = run[0].path
    if len(run) > 1:
        label += '–' + run[-1].path.rpartition('.')[2]
    return _Group(label, list(run))


def _rest(parts: List[_Part]) -> _Group:
    """What is left of a part."""
    parts = sorted(parts, key=lambda part: part.place)
    if len(parts) == 1:
        return _Group(parts[0].path, parts)
    common = os.path.commonprefix([part.path.split('.') for part in parts])
    return _Group(f'{".".join(common)} (rest)', parts)


def _few(parts: Sequence[_Part]) -> List[_Group]:
    """Parts as they are, but the smaller ones of many in one row."""
    groups = [_Group(part.path, [part]) for part in parts]
    if len(groups) <= _FEW:
        return groups
    groups.sort(key=_size, reverse=True)
    large = groups[: _FEW - 1]
    return [*large, _joined(groups[_FEW - 1 :])]


def _joined(groups: List[_Group]) -> _Group:
    """Groups in one, that names as many of them as it has room for."""
    names = [group.label for group in sorted(groups, key=_size, reverse=True)]
    label = ', '.join(names)
    while len(label) > _MOST_LETTERS and len(names) > 1:
        names.pop()
        label = f'{", ".join(names)} and {len(groups) - len(names)} more'
    parts = [part for group in groups for part in group.parts]
    return _Group(label, sorted(parts, key=lambda part: part.place))


def _size(group: _Group) -> int:
    return sum(len(part.members) for part in group.parts)


def _parent(name: str) -> str:
    return name.rpartition('.')[0]


def _is_under(name: str, paths: Collection[str]) -> bool:
    """Whether one of the paths is that of a tensor or above it."""
    while name and name not in paths:
        name = _parent(name)
    return name in paths
