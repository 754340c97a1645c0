"""The modules and tensors of a model, by path."""

from contextlib import contextmanager
from functools import cached_property
from itertools import permutations
from operator import attrgetter
from typing import (
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Sequence,
    Set,
    Tuple,
    Union,
)

import torch.nn as nn
from mmengine.model import is_model_wrapper
from torch import Tensor

from .tensors import has_memory, is_inside, memory_of, overlap, regions

# Modules that torch puts around another one, by the name under which they
# keep it: torch.compile, activation checkpointing, FSDP.
_WRAPPED_AS = (
    '_orig_mod',
    '_checkpoint_wrapped_module',
    '_fsdp_wrapped_module',
)


class Entry(NamedTuple):
    """One entry of the model's state dict: a parameter or a persistent
    buffer. Parameters are nodes of the tree as well.

    Attributes:
        path (str): Its state-dict name.
        value (Tensor): The tensor.
        number (int): Place among the nodes; that of the owner for a buffer.
        owner (nn.Module): The module that it hangs in.
        key (str): Its name there.
    """

    path: str
    value: Tensor
    number: int
    owner: nn.Module
    key: str

    @property
    def end(self) -> int:
        """The first node behind it."""
        return self.number + 1

    @property
    def is_parameter(self) -> bool:
        """Whether it is a parameter, and no buffer."""
        return isinstance(self.value, nn.Parameter)

    @property
    def is_counter(self) -> bool:
        """Whether it is batch norm's counter of batches, which many
        checkpoints lack and nobody initializes.
        """
        return self.key == 'num_batches_tracked'

    def tensors(self) -> List['Entry']:
        """Itself."""
        return [self]


class Module:
    """A module of a model, at a path.

    Attributes:
        path (str): Its path; that of the model itself is ``''``.
        value (nn.Module): The module.
        number (int): Place among the nodes of the tree, which are in order of
            appearance.
        end (int): The first node that is not under it.
    """

    __slots__ = ('path', 'value', 'number', 'end', '_entries', '_first', '_to')

    def __init__(
        self, path: str, value: nn.Module, number: int, entries: List[Entry]
    ) -> None:
        self.path = path
        self.value = value
        self.number = number
        self._entries = entries
        self._first = len(entries)

    def close(self, end: int) -> None:
        """Take what was added since it was made for what is under it."""
        self.end = end
        self._to = len(self._entries)

    def tensors(self) -> List[Entry]:
        """Entries of the state dict under it."""
        return self._entries[self._first : self._to]


Node = Union[Module, Entry]


class ModelTree:
    """Modules and parameters of a model, by path.

    Wrappers (DDP, FSDP, ``torch.compile``, activation checkpointing) are
    stepped through.

    Attributes:
        nodes (list[Node]): Modules and parameters, in order of appearance.
        entries (list[Entry]): Parameters and persistent buffers, likewise.
        index (dict[str, Node]): The nodes by path.
    """

    def __init__(self, model: nn.Module) -> None:
        self.nodes: List[Node] = []
        self.entries: List[Entry] = []
        self._wrapped: List[
            Tuple[Dict[str, nn.Module], str, nn.Module, nn.Module]
        ] = []
        self._walk(unwrap(model), '')
        self.index: Dict[str, Node] = {node.path: node for node in self.nodes}

    # `_parameters`, `_buffers` and `_modules` are read directly: the public
    # iterators either skip shared tensors, or cost several walks.
    def _walk(self, module: nn.Module, path: str) -> None:
        nodes, entries = self.nodes, self.entries
        node = Module(path, module, len(nodes), entries)
        nodes.append(node)
        prefix = path + '.' if path else ''
        for key, tensor in module._parameters.items():
            if tensor is not None:
                leaf = Entry(prefix + key, tensor, len(nodes), module, key)
                nodes.append(leaf)
                entries.append(leaf)
        if module._buffers:
            for key, tensor in module._buffers.items():
                if (
                    tensor is not None
                    and key not in module._non_persistent_buffers_set
                ):
                    name, number = prefix + key, node.number
                    entries.append(Entry(name, tensor, number, module, key))
        for key, child in module._modules.items():
            if child is not None:
                inner = unwrap(child) if child._modules else child
                if inner is not child:
                    self._wrapped.append((module._modules, key, child, inner))
                self._walk(inner, prefix + key)
        node.close(len(nodes))

    @contextmanager
    def unwrapped(self) -> Iterator[None]:
        """Have no wrappers inside of the model: initializers would come by a
        wrapped module twice.
        """
        for modules, key, _, inner in self._wrapped:
            modules[key] = inner
        try:
            yield
        finally:
            for modules, key, wrapper, _ in self._wrapped:
                modules[key] = wrapper

    @cached_property
    def _first(self) -> Dict[int, Node]:
        if len({id(node.value) for node in self.nodes}) == len(self.nodes):
            return {}
        first: Dict[int, Node] = {}
        for node in self.nodes:
            first.setdefault(id(node.value), node)
        return first

    def first(self, node: Node) -> Node:
        """The first place of what hangs in several."""
        return self._first.get(id(node.value), node)

    @property
    def sharing(self) -> Dict[str, List[str]]:
        """Names of the entries that are one tensor, or tensors of the same
        elements, by each of these names; others are not in it.
        """
        return self._shared[0]

    @cached_property
    def _shared(self) -> Tuple[Dict[str, List[str]], bool]:
        """Besides, whether some begin at one place and end at several."""
        first: Dict[Tuple[int, int], str] = {}
        shared: Dict[str, List[str]] = {}
        for entry in self.entries:
            name = first.setdefault(memory_of(entry.value), entry.path)
            if name is not entry.path:
                shared.setdefault(name, [name]).append(entry.path)
        names = {name: names for names in shared.values() for name in names}
        return names, len({start for start, _ in first}) < len(first)

    def with_sharing(self, names: Iterable[str]) -> Set[str]:
        """Names, and those of all tensors that share memory with them."""
        found = set(names)
        if self.sharing:
            for name in found & self.sharing.keys():
                found.update(self.sharing[name])
        return found

    @cached_property
    def overlapping(self) -> Dict[str, List[str]]:
        """Names of the entries that have some elements in common with others,
        and the names of those.
        """
        names: Dict[str, List[str]] = {}
        entries: List[Entry] = []
        # Of two such, one does not begin where their storage does, or both
        # begin at one place and one ends before the other.
        if self._shared[1] or any(
            is_inside(entry.value) for entry in self.entries
        ):
            entries = [e for e in self.entries if has_memory(e.value)]
        for region in regions(entry.value for entry in entries):
            for a, b in permutations([entries[i] for i in region], 2):
                if memory_of(a.value) != memory_of(b.value):
                    if overlap(a.value, b.value):
                        names.setdefault(a.path, []).append(b.path)
        return names

    def outermost(self, nodes: Sequence[Node]) -> List[Node]:
        """Drop the nodes that lie under another one of them."""
        kept: List[Node] = []
        for node in sorted(nodes, key=attrgetter('number')):
            if not kept or node.number >= kept[-1].end:
                kept.append(node)
        return kept


def unwrap(module: nn.Module) -> nn.Module:
    """Step through the wrappers around a module."""
    while True:
        children = module._modules
        inner = None
        if 'module' in children and (
            is_model_wrapper(module)
            # DeepSpeed's engine, where MMEngine has not wrapped it.
            or hasattr(module, 'zero_optimization_stage')
        ):
            inner = children['module']
        elif len(children) == 1 and not (
            module._parameters or module._buffers
        ):
            inner = next(
                (children[name] for name in _WRAPPED_AS if name in children),
                None,
            )
        if inner is None:
            return module
        module = inner
