"""Which new parts feed each other, and where they meet what is old."""

from typing import (
    Dict,
    FrozenSet,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .calls import Call, Mark
from .graph import Graph, Op, operands


class Flow:
    """What a run computes from new parts alone.

    Attributes:
        marks (dict[Op, int]): What parts give, and the number of the part.
        inside (set[Op]): What is computed in parts that are called.
        new (dict[int, int | None]): New tensors by identity; the number of the
            part for one that is a part itself.

    Args:
        calls (Sequence[Sequence[Call]]): The calls of each part.
        new (dict[int, int | None]): As above.
        graph (Graph): What the run computed.
        alone (Iterable[int]): Parts that are taken for old by the others.
    """

    def __init__(
        self,
        calls: Sequence[Sequence[Call]],
        new: Dict[int, Optional[int]],
        graph: Graph,
        alone: Iterable[int] = (),
    ) -> None:
        self.calls, self.new, self.graph = calls, new, graph
        self.alone = set(alone)
        self.marks: Dict[Op, int] = {}
        self.inside: Set[Op] = set()
        self._entries: Set[Op] = set()  # of parts that stand alone
        for part, its in enumerate(calls):
            for call in its:
                self.marks.update((mark.op, part) for mark in call.outs)
                self.inside |= self._within(call)
                if part in self.alone:
                    self._entries.update(mark.op for mark in call.ins)
        self._joined = list(range(len(calls)))
        self._fresh: Dict[Op, FrozenSet[int]] = {}
        self._colour()

    def groups(self) -> List[List[int]]:
        """Parts that feed each other, or the same thing."""
        groups: Dict[int, List[int]] = {}
        for part in range(len(self.calls)):
            groups.setdefault(self._root(part), []).append(part)
        return list(groups.values())

    def given(self, parts: Sequence[int]) -> Set[Op]:
        """What some parts give; themselves, where they are tensors."""
        found = {op for op, part in self.marks.items() if part in parts}
        bare = {op for op in self._fresh if self._bare(op) in parts}
        return (found or bare) & set(self.graph.order)

    def taken(self, parts: Iterable[int]) -> List[Mark]:
        """What some parts take from others."""
        return [
            mark
            for part in parts
            for call in self.calls[part]
            for mark in call.ins
            if mark.op not in self._fresh and mark.op in self.graph.order
        ]

    def edges(self, parts: Sequence[int]) -> List[Tuple[Op, Op]]:
        """Where what comes from some parts meets something else: what it is,
        and what takes it.
        """
        mine = set(parts)
        given = [
            op
            for op, found in self._fresh.items()
            if found and found <= mine and op not in self.inside
        ]
        if self.alone & mine:
            given += self.given(parts)
        return [
            (op, user)
            for op in given
            for user in self.graph.users.get(op, ())
            if user not in self._fresh
            and (user not in self.inside or user in self._entries)
        ]

    def ends(self, edges: Iterable[Tuple[Op, Op]]) -> List[int]:
        """The parts from which something else comes at once; those that are
        tensors only where there are no others.
        """
        found: Set[int] = set()
        for op, _ in edges:
            if op in self._fresh:
                found |= self._fresh[op]
            else:
                found.add(self.marks[op])
        called = sorted(part for part in found if self.calls[part])
        return called or sorted(found)

    def is_outside(self, op: Op) -> bool:
        """Whether it is neither in new parts nor from them alone."""
        return (
            op not in self.inside
            and op not in self.marks
            and op not in self._fresh
        )

    def _within(self, call: Call) -> Set[Op]:
        ends = {mark.op for mark in call.ins}
        found: Set[Op] = set()
        for mark in call.outs:
            if mark.op in self.graph.order:
                found.update(self.graph.above(mark.op, ends.__contains__))
        return found.difference(mark.op for mark in call.outs)

    def _bare(self, op: Op) -> Optional[int]:
        return self.new.get(id(getattr(op, 'variable', None)))

    def _colour(self) -> None:
        for op in self.graph.order:
            found = self._parts_of(op)
            if found is not None:
                self._fresh[op] = found
                self._join(found)
        for part, calls in enumerate(self.calls):
            for call in calls:
                for mark in call.ins:
                    self._join({part}.union(self._fresh.get(mark.op, ())))

    def _parts_of(self, op: Op) -> Optional[FrozenSet[int]]:
        """The parts from which alone an operation's result comes."""
        if op in self.marks:
            part = self.marks[op]
            return None if part in self.alone else frozenset([part])
        if hasattr(op, 'variable'):
            if id(op.variable) not in self.new:
                return None
            bare = self._bare(op)
            return frozenset() if bare is None else frozenset([bare])
        found: Set[int] = set()
        for below in operands(op):
            if op in self._entries or below not in self._fresh:
                return None
            found |= self._fresh[below]
        return frozenset(found) if operands(op) else None

    def _root(self, part: int) -> int:
        while self._joined[part] != part:
            part = self._joined[part]
        return part

    def _join(self, parts: Iterable[int]) -> None:
        roots = sorted({self._root(part) for part in parts})
        for root in roots[1:]:
            self._joined[root] = roots[0]
