"""Where new parts stand in a network, and what would be harmless there."""

from dataclasses import dataclass, field
from typing import List, Mapping, Optional, Sequence, Set, Tuple, Type

import torch.nn as nn

from ..errors import some
from ..model.tree import ModelTree, Node
from .calls import Call, Mark, Shape
from .flow import Flow
from .graph import (
    Graph,
    Op,
    is_gate,
    keeps_zero,
    kind,
    moves,
    operands,
    unmoved,
)
from .inner import Gate, Inner

# What a part has to give so that the network computes what it did without it.
ZERO, ONE, OPEN, INPUT, LAYER = 'zero', 'one', 'open', 'input', 'layer'
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
Edges = List[Tuple[Op, Op]]


@dataclass
class Place:
    """New parts that belong together, at one place of a network.

    Attributes:
        nodes (list[Node]): The parts.
        use (str): What is harmless there; ``''`` if that is not known.
        why (str): Why it is not known.
        ends (list[Node]): The parts whose output has to be so.
        last (list[str]): Paths of the layers, or bare parameters, that it is
            computed by last.
        rectified (bool): Whether it goes through a ReLU then.
        gates (list[Gate]): The gates in it.
        factors (list[str]): Paths of the bare parameters, or layers, that
            something is multiplied with.
        wraps (nn.Module, optional): The loaded layer, if it is one with
            something added.
    """

    nodes: List[Node]
    use: str = ''
    why: str = ''
    ends: List[Node] = field(default_factory=list)
    last: List[str] = field(default_factory=list)
    rectified: bool = False
    gates: List[Gate] = field(default_factory=list)
    factors: List[str] = field(default_factory=list)
    wraps: Optional[nn.Module] = None


class Finder:
    """Finds the places of new parts, by the graph of one run.

    Args:
        tree (ModelTree): The model.
        nodes (Sequence[Node]): Its new parts, none under another, and layers
            that something was added to.
        kept (Set[str]): Names of what is not new.
        gone (Set[str]): Names of what was pretrained and has no place in the
            model.
        calls (Sequence[Call]): Calls of those that are modules.
        graph (Graph): What the run computed.
        shapes (dict): By path, the first shape that each called module gave.
    """

    def __init__(
        self,
        tree: ModelTree,
        nodes: Sequence[Node],
        kept: Set[str],
        gone: Set[str],
        calls: Sequence[Call],
        graph: Graph,
        shapes: Mapping[str, Shape],
    ) -> None:
        self.nodes, self.kept, self.gone = nodes, kept, gone
        self.graph, self.shapes = graph, shapes
        numbers = {id(node.value): i for i, node in enumerate(nodes)}
        self.calls: List[List[Call]] = [[] for _ in nodes]
        for call in calls:
            self.calls[numbers[id(call.part)]].append(call)
        self.new = {
            id(entry.value): numbers.get(id(entry.value))
            for node in nodes
            for entry in node.tensors()
            if entry.path not in kept
        }
        self.names = {id(entry.value): entry.path for entry in tree.entries}

    def places(self) -> List[Place]:
        """All places, in the order of their first parts."""
        alone: Set[int] = set()
        while True:
            self.flow = Flow(self.calls, self.new, self.graph, alone)
            self.inner = Inner(self.flow, self.names)
            groups = self.flow.groups()
            places = [self._place(parts) for parts in groups]
            # What has its input's shape and stands in the way of features
            # belongs to nothing that comes behind it.
            more = {
                part
                for parts, place in zip(groups, places)
                if len(parts) > 1 and place.use in ('', INPUT)
                for part in parts
                if self._keeps_shape(part)
            }
            if more <= alone:
                return places
            alone |= more

    def _keeps_shape(self, part: int) -> bool:
        marks = [mark for c in self.calls[part] for mark in [*c.ins, *c.outs]]
        return len({mark.shape for mark in marks}) == 1

    def _place(self, parts: List[int]) -> Place:
        place = Place([self.nodes[i] for i in parts])
        given = self.flow.given(parts)
        place.wraps = wrapped(place.nodes[0], self.kept, self.shapes)
        if place.wraps is not None:
            place.use, place.ends = LAYER, place.nodes
            self._look_inside(place, [(op, op) for op in given])
            return place
        if not given:
            place.why = 'nothing that comes out of the network depends on it'
            return place
        edges = self.flow.edges(parts)
        taken = self.flow.taken(parts)
        uses = {self._use(f, j, given, taken) for f, j in edges}
        place.use = uses.pop() if len(uses) == 1 else INPUT
        place.ends = [self.nodes[i] for i in self.flow.ends(edges)]
        if not edges:
            place.use, place.why = '', 'nothing of the network comes after it'
        elif taken and all(mark.is_zero for mark in taken):
            place.use, place.why = '', 'nothing but zeros goes into it'
        elif place.use == INPUT:
            self._check_input(place, parts, taken)
        self._look_inside(place, edges or [(op, op) for op in given])
        return place

    def _use(self, f: Op, j: Op, given: Set[Op], taken: List[Mark]) -> str:
        """What is harmless for ``f``, which operation ``j`` takes."""
        others = [op for op in operands(j) if op is not f]
        if len(others) != 1 or kind(j) not in ('Add', 'Sub', 'Mul'):
            return INPUT
        if not taken:  # a bare parameter
            return ONE if kind(j) == 'Mul' else ZERO
        sources = _sources(taken)
        if not self._comes_from(others[0], sources, given):
            return INPUT
        above = self.graph.above(f, given.__contains__)
        way = [op for op in above if op not in given and operands(op)]
        if kind(j) != 'Mul':
            return ZERO if all(map(_is_zero, way)) else INPUT
        for op, user in self._after(j):
            rest = [other for other in operands(user) if other is not op]
            if kind(user) == 'Add' and rest:
                if self._comes_from(rest[0], sources, given):
                    return ZERO  # x + x * y
        if all(map(moves, way)):
            return ONE
        if sum(map(is_gate, way)) == 1:
            return OPEN
        shifted = [op for op in way if not _is_zero(op)]
        if len(shifted) == 1 and kind(shifted[0]) == 'Add':
            return ZERO  # x * (1 + y)
        return INPUT

    def _comes_from(self, op: Op, sources: Set[Op], given: Set[Op]) -> bool:
        """Whether an operation's result comes from some sources, and not from
        what is given.
        """
        found = set(self.graph.above(op))
        return not found & given and bool(found & sources)

    def _after(self, op: Op) -> Edges:
        """What takes an operation's result, and does not only move it."""
        found = []
        waiting = [op]
        while waiting:
            op = waiting.pop()
            for user in self.graph.users.get(op, ()):
                if moves(user):
                    waiting.append(user)
                else:
                    found.append((op, user))
        return found

    def _check_input(
        self, place: Place, parts: List[int], taken: List[Mark]
    ) -> None:
        """See whether what a place gives can be what it takes."""
        ends = [i for i in parts if self.nodes[i] in place.ends]
        given = {c.outs[0].shape for i in ends for c in self.calls[i]}
        sources = [unmoved(mark.source) for mark in taken]
        starts = [c for i in parts for c in self.calls[i] if c.ins]
        replaced = [name for name in self.gone if _may_replace(place, name)]
        if replaced:
            place.why = (
                f'it may replace something pretrained ({some(replaced, 2)})'
            )
        elif not taken:
            place.why = 'no features are added to it or multiplied with it'
        elif {mark.shape for mark in taken} != given:
            place.why = 'what it gives has another shape than what it takes'
        elif len(set(sources)) > len(starts):
            place.why = 'it takes several features, and may fuse them'
        if place.why:
            place.use = ''

    def _look_inside(self, place: Place, edges: Edges) -> None:
        for end, _ in edges:
            for path, rectified in self.inner.last_layers(end):
                if path not in place.last and _is_in(place, path):
                    place.last.append(path)
                    place.rectified = place.rectified or rectified
        inside = self.inner.reached(end for end, _ in edges)
        for op in [*inside, *(op for _, op in edges)]:
            gate = self.inner.gate(op)
            if gate and all(_is_in(place, path) for path in gate.layers):
                if gate not in place.gates:
                    place.gates.append(gate)
            for path in self.inner.factors(op):
                if path not in place.factors and _is_in(place, path):
                    place.factors.append(path)


def _is_in(place: Place, path: str) -> bool:
    return any(f'{path}.'.startswith(f'{n.path}.') for n in place.nodes)


def _may_replace(place: Place, name: str) -> bool:
    """Whether a tensor that has no place in a model was of a module where a
    new part stands, or beside it.
    """
    beside = name.rpartition('.')[0].rpartition('.')[0]
    return any(
        node.path.rpartition('.')[0] == beside
        or name.startswith(f'{node.path}.')
        for node in place.nodes
    )


def _is_zero(op: Op) -> bool:
    """Whether it gives 0 where what comes from new parts is 0."""
    several = len(operands(op)) > 1
    return kind(op) in ('Add', 'Mul') if several else keeps_zero(op)


def _sources(taken: List[Mark]) -> Set[Op]:
    """What computes some inputs, also before operations of one tensor."""
    found = set()
    for mark in taken:
        op = mark.source
        found.add(op)
        while len(operands(op)) == 1:
            op = operands(op)[0]
            found.add(op)
    return found


def wrapped(
    node: Node, kept: Set[str], shapes: Mapping[str, Shape]
) -> Optional[nn.Module]:
    """The loaded layer that a part is, or that it holds alone, and to which
    something new was added; None if it is another part, or of another shape.
    """
    part, path = node.value, node.path
    if not isinstance(part, nn.Module) or type(part) in _LISTS:
        return None
    names = {name for name in kept if name.startswith(f'{path}.')}
    if f'{path}.weight' in names:
        more = dict(part.named_parameters()).keys() - {'weight', 'bias'}
        is_more = any(f'{path}.{name}' not in kept for name in more)
        return part if is_more and layer_class(part) is not None else None
    for name, child in part.named_children():
        start = f'{path}.{name}.'
        if f'{start}weight' in names:
            is_like = shapes.get(start[:-1]) == shapes.get(path)
            is_all = all(name.startswith(start) for name in names)
            return child if is_like and is_all else None
    return None


def layer_class(part: nn.Module) -> Optional[Type[nn.Module]]:
    """The layer of torch's that a part's class adds something to."""
    own, *above = type(part).__mro__
    torchs = [kind for kind in above if kind.__module__.startswith('torch.')]
    is_own = not own.__module__.startswith('torch.')
    return torchs[0] if is_own and torchs[0] is not nn.Module else None
