"""A start, tried: what the network computes with it, and whether it learns."""

import math
import os.path
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Set, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from ..errors import told
from ..model.tree import ModelTree, Node
from .calls import Shape, marked, replaced
from .drift import allowed_behind
from .graph import Graph
from .network import Network, floating
from .places import Finder, Place, wrapped
from .reference import without

_NETWORK = ''  # the path of the model
# What a run gave above each place, call by call.
Outputs = Dict[str, List[List[Tensor]]]


@dataclass
class Outcome:
    """What came of a start at some places.

    Attributes:
        drift (float): The largest change of what later parts compute, by its
            norm.
        allowed (float): Up to where that makes no difference.
        stays (bool): Whether a first step changes that by little.
        learning (list[str]): The parameters that get gradients.
        stuck (list[str]): Those that do not, and could.
        failed (str): Why the network does not run with it, if it does not.
    """

    drift: float
    allowed: float
    stays: bool = True
    learning: Sequence[str] = ()
    stuck: Sequence[str] = ()
    failed: str = ''

    @property
    def is_harmless(self) -> bool:
        """Whether later parts compute what they did without the block."""
        return self.drift <= self.allowed

    @property
    def is_neutral(self) -> bool:
        """Whether it is harmless, remains so, and all of it learns."""
        return self.is_harmless and self.stays and not self.stuck


class Trial:
    """Tries starts of new parts of a network.

    Attributes:
        places (list[Place]): Where the new parts stand.
        only_eval (str): Why the network was not run in train mode, if it was
            not: some detectors do that with annotations only.

    Args:
        network (Network): The network, its pretrained weights loaded.
        tree (ModelTree): Its model.
        nodes (Sequence[Node]): Its new parts, none under another.
        kept (Set[str]): Names of what is not new.
        gone (Set[str]): Names of what was pretrained and has no place in the
            model.
    """

    def __init__(
        self,
        network: Network,
        tree: ModelTree,
        nodes: Sequence[Node],
        kept: Set[str],
        gone: Set[str],
    ) -> None:
        self.network, self.tree, self.kept = network, tree, kept
        self.gone = gone
        # By path, what each module gives that a run calls: the first shape.
        self._called = self._which_are_called()
        self.places = self._find(nodes)
        self.only_eval = ''
        with torch.no_grad(), without(self.places):
            self._clean = {False: self._run(self.places, False, {})}
            try:
                self._clean[True] = self._run(self.places, True, {})
            except Exception as error:  # anybody's code
                self.only_eval = told(error)

    @property
    def modes(self) -> List[bool]:
        """Whether it is run in train mode: not, and then so."""
        return list(self._clean)

    def measure(self, places: Sequence[Place]) -> Outcome:
        """What later parts compute with places as they are now, against what
        they compute without them; the other places are harmless meanwhile.

        Raises:
            ValueError: If what they compute cannot be compared.
        """
        gates = max(len(place.gates) for place in places)
        with torch.no_grad():
            drifts = [
                relative(got, clean)
                for train in self.modes
                for got, clean in self.outputs(places, train)
            ]
        if not drifts:
            raise ValueError('what is above it gives no numbers')
        return Outcome(max(drifts), allowed_behind(gates))

    def outputs(
        self, places: Sequence[Place], train: bool
    ) -> Iterator[Tuple[Tensor, Tensor]]:
        """What is computed above places as they are, and without them, call by
        call.

        Raises:
            ValueError: If other calls are made, or give something else.
        """
        clean = self._clean[train]
        measured = {id(place) for place in places}
        others = [p for p in self.places if id(p) not in measured]
        with without(others):
            found = self._run(places, train, clean)
        for path, calls in found.items():
            got = [tensor for call in calls for tensor in call]
            there = [tensor for call in clean[path] for tensor in call]
            if [t.shape for t in got] != [t.shape for t in there]:
                raise ValueError(f'{path} is called in another way')
            yield from zip(got, there)

    def those_called(self, nodes: Iterable[Node]) -> Iterator[Node]:
        """Parts of the model, or what is in them where they are not called."""
        for node in nodes:
            is_module = isinstance(node.value, nn.Module)
            inner = self._directly_in(node) if is_module else []
            if inner and node.path not in self._called:
                yield from self.those_called(inner)
            else:
                yield node

    def parameters(self, places: Sequence[Place]) -> Dict[str, nn.Parameter]:
        """The new parameters of places, by name."""
        return {
            entry.path: entry.value
            for place in places
            for node in place.nodes
            for entry in node.tensors()
            if isinstance(entry.value, nn.Parameter)
            and entry.path not in self.kept
            and entry.value.is_floating_point()
        }

    def _find(self, nodes: Sequence[Node]) -> List[Place]:
        nodes = self._with_wrappers(self.those_called(nodes))
        parts = [n.value for n in nodes if isinstance(n.value, nn.Module)]
        with marked(parts) as calls, torch.enable_grad():
            outputs = self.network.run(traced=True)
            graph = Graph(floating(outputs))
        finder = Finder(
            self.tree, nodes, self.kept, self.gone, calls, graph, self._called
        )
        return finder.places()

    def _which_are_called(self) -> Dict[str, Shape]:
        """Paths of the modules that a run calls, and what they give."""
        called: Dict[str, Shape] = {_NETWORK: None}
        with ExitStack() as stack, torch.no_grad():
            for node in self.tree.nodes:
                if isinstance(node.value, nn.Module):

                    def note(*args: Any, path: str = node.path) -> None:
                        shapes = [t.shape for t in floating(args[-1])]
                        called[path] = shapes[0] if shapes else None

                    hook = node.value.register_forward_hook(note)
                    stack.enter_context(hook)
            self.network.run()
        return called

    def _directly_in(self, node: Node) -> List[Node]:
        index = self.tree.index
        names = [*node.value._parameters, *node.value._modules]
        paths = [f'{node.path}.{name}' for name in names]
        return [index[path] for path in paths if path in index]

    def _with_wrappers(self, nodes: Iterable[Node]) -> List[Node]:
        """The nodes, layers in place of bare parameters added to them."""
        found = {}
        for node in nodes:
            if not isinstance(node.value, nn.Module):
                owner = self.tree.index[node.path.rpartition('.')[0]]
                if wrapped(owner, self.kept, self._called) is not None:
                    node = owner
            found[node.path] = node
        return self.tree.outermost(list(found.values()))

    def _run(
        self, places: Sequence[Place], train: bool, clean: Outputs
    ) -> Outputs:
        """What is computed above places. Where it is given what is clean
        there, the network goes on with that, as far as it has to.
        """
        found: Outputs = {}
        paths = {self._shown_at(place) for place in places if place.use}
        wanted = sum(len(clean.get(path, ())) for path in paths)

        def check() -> None:
            if sum(map(len, found.values())) == wanted:
                raise _DoneError

        with ExitStack() as stack:
            for path in paths - {_NETWORK}:
                found[path] = []
                after = _taking(found[path], clean.get(path), check)
                part = self.tree.index[path].value
                stack.enter_context(part.register_forward_hook(after))
            try:
                output = self.network.run(train)
            except _DoneError:
                return found
        if _NETWORK in paths:
            found[_NETWORK] = [list(floating(output))]
        return found

    def _shown_at(self, place: Place) -> str:
        """The path of the smallest part around a place that is called."""
        above = [node.path.split('.')[:-1] for node in place.nodes]
        common = os.path.commonprefix(above)
        while '.'.join(common) not in self._called:
            common = common[:-1]
        return '.'.join(common)


def relative(got: Tensor, clean: Tensor) -> float:
    """How far one is from the other, by the norm of that; without end where
    something is not finite.
    """
    got, clean = got.detach().double(), clean.double()
    norm = clean.norm().item()
    drift = (got - clean).norm().item()
    if not math.isfinite(drift):
        return math.inf
    return drift / norm if norm else float(drift > 0)


class _DoneError(Exception):
    """Nothing more of a run is needed."""


def _taking(found: List[List[Tensor]], clean: Any, check: Any) -> Any:
    """A hook that notes what a part gives, and has it give what is clean."""

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        number = len(found)
        found.append([t if clean else t.clone() for t in floating(output)])
        if not clean:
            return output
        check()
        rest = iter(clean[number])
        return replaced(output, lambda t: next(rest).clone())

    return after
