"""The tree of names in a model that path patterns select from."""

import difflib
from bisect import bisect_left
from contextlib import contextmanager
from typing import Dict, Iterable, Iterator, List, NamedTuple, Tuple, Union

import torch.nn as nn
from mmengine.model import is_model_wrapper
from torch import Tensor

from ..processes.shards import Shards
from ..rules.patterns import MAGIC, parse_pattern, segment_regex

# Modules that torch puts around another one, by the name under which they
# keep it: torch.compile, activation checkpointing, FSDP.
_WRAPPED_AS = (
    '_orig_mod',
    '_checkpoint_wrapped_module',
    '_fsdp_wrapped_module',
)


class Slot(NamedTuple):
    """One entry of the model's state dict and where it hangs."""

    name: str
    owner: nn.Module
    key: str
    tensor: Tensor

    @property
    def is_counter(self) -> bool:
        """Whether it is batch norm's counter of batches, which many
        checkpoints lack and nobody initializes.
        """
        return self.key == 'num_batches_tracked'


class ModelTree:
    """Modules and parameters of a model, by path, in order of appearance.

    Nodes are numbered so that what lies under node ``i`` is the range
    ``i + 1`` to ``ends[i]``. Wrappers (DDP, FSDP, ``torch.compile``,
    activation checkpointing) are stepped through, and for a parameter that
    lies in parts its stand-in is there.

    Attributes:
        paths (list[str]): Path of each node; the model itself is ``''``.
        nodes (list[nn.Module | nn.Parameter]): The node itself.
        slots (list[Slot]): Parameters and persistent buffers.
        shards (Shards): The parameters that lie in parts.
    """

    def __init__(self, model: nn.Module) -> None:
        self.paths: List[str] = []
        self.nodes: List[Union[nn.Module, nn.Parameter]] = []
        self.ends: List[int] = []
        self.slots: List[Slot] = []
        self._first_slot: List[int] = []
        self._wrapped: List[
            Tuple[Dict[str, nn.Module], str, nn.Module, nn.Module]
        ] = []
        self.shards = Shards(model)
        with self.shards.shown():
            self._walk(unwrap(model), '')
        self._first_slot.append(len(self.slots))
        numbers = range(len(self.paths))
        self.index: Dict[str, int] = dict(zip(self.paths, numbers))
        # A module that hangs in several places counts as the first of them.
        self._first: Dict[int, int] = {}
        if len(set(map(id, self.nodes))) < len(self.nodes):
            for node, number in zip(self.nodes, numbers):
                self._first.setdefault(id(node), number)
        self._by_name: Dict[str, List[int]] = {}
        self._found: Dict[Tuple[str, ...], List[int]] = {}

    # `_parameters`, `_buffers` and `_modules` are read directly: the public
    # iterators either skip shared tensors, or cost several walks.
    def _walk(self, module: nn.Module, path: str) -> None:
        paths, nodes, ends = self.paths, self.nodes, self.ends
        slots, first_slot = self.slots, self._first_slot
        number = len(paths)
        paths.append(path)
        nodes.append(module)
        ends.append(0)
        first_slot.append(len(slots))
        prefix = path + '.' if path else ''
        for key, tensor in module._parameters.items():
            if tensor is not None:
                name = prefix + key
                paths.append(name)
                nodes.append(tensor)
                ends.append(len(paths))
                first_slot.append(len(slots))
                slots.append(Slot(name, module, key, tensor))
        if module._buffers:
            for key, tensor in module._buffers.items():
                if (
                    tensor is not None
                    and key not in module._non_persistent_buffers_set
                ):
                    slots.append(Slot(prefix + key, module, key, tensor))
        for key, child in module._modules.items():
            if child is not None:
                inner = unwrap(child) if child._modules else child
                if inner is not child:
                    self._wrapped.append((module._modules, key, child, inner))
                self._walk(inner, prefix + key)
        ends[number] = len(paths)

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Have the model as it was before anything was wrapped or sharded:
        initializers would come by a wrapped module twice.
        """
        with self.shards.shown():
            for modules, key, _, inner in self._wrapped:
                modules[key] = inner
            try:
                yield
            finally:
                for modules, key, wrapper, _ in self._wrapped:
                    modules[key] = wrapper

    def name(self, number: int) -> str:
        """The last segment of a node's path."""
        return self.paths[number].rpartition('.')[2]

    def first(self, number: int) -> int:
        """The first place of a node that hangs in several."""
        return self._first.get(id(self.nodes[number]), number)

    def slots_under(self, number: int) -> List[Slot]:
        """Entries of the state dict at and under a node."""
        first, end = self._first_slot[number], self.ends[number]
        is_module = isinstance(self.nodes[number], nn.Module)
        last = self._first_slot[end] if is_module else first + 1
        return self.slots[first:last]

    def select(self, alternatives: Iterable[Tuple[str, ...]]) -> List[int]:
        """Numbers of the nodes that any of the parsed patterns names."""
        found = set()
        for segments in alternatives:
            found.update(self._descend(segments))
        return sorted({self.first(i) for i in found})

    def outermost(self, numbers: Iterable[int]) -> List[int]:
        """Drop the nodes that lie under another one of them."""
        kept: List[int] = []
        for number in sorted(numbers):
            if not kept or number >= self.ends[kept[-1]]:
                kept.append(number)
        return kept

    def _descend(self, segments: Tuple[str, ...]) -> List[int]:
        """Nodes that the segments lead to from the root, shared prefixes of
        patterns walked once.
        """
        if not segments:
            return [0]
        if segments not in self._found:
            *head, last = segments
            if last == '**':
                # Everything below matches too; its outermost nodes say it.
                numbers = self.outermost(self._descend(tuple(head)))
            elif head and head[-1] == '**':
                numbers = self._below(self._descend(tuple(head)), last)
            else:
                numbers = self._children(self._descend(tuple(head)), last)
            self._found[segments] = numbers
        return self._found[segments]

    def _children(self, parents: List[int], segment: str) -> List[int]:
        if not MAGIC.search(segment):
            paths = (self.paths[i] for i in parents)
            children = (
                path + '.' + segment if path else segment for path in paths
            )
            return [self.index[c] for c in children if c in self.index]
        matches = segment_regex(segment).match
        found = []
        for parent in parents:
            child, end = parent + 1, self.ends[parent]
            while child < end:
                if matches(self.name(child)):
                    found.append(child)
                child = self.ends[child]
        return found

    def _below(self, parents: List[int], segment: str) -> List[int]:
        if not self._by_name:
            for number, path in enumerate(self.paths):
                name = path.rpartition('.')[2]
                self._by_name.setdefault(name, []).append(number)
        if MAGIC.search(segment):
            matches = segment_regex(segment).match
            names = [name for name in self._by_name if matches(name)]
        else:
            names = [segment] if segment in self._by_name else []
        found = []
        for parent in parents:
            for name in names:
                numbers = self._by_name[name]
                found += numbers[
                    bisect_left(numbers, parent + 1) : bisect_left(
                        numbers, self.ends[parent]
                    )
                ]
        return found

    def nearest(self, pattern: str, count: int = 3) -> List[str]:
        """The nearest paths that a pattern without a match may have meant.

        First those that differ by left-out segments (``se`` for
        ``backbone.layer1.0.se``), then those spelled alike.
        """
        near: List[str] = []
        for segments in parse_pattern(pattern):
            loose: List[str] = []
            for segment in segments:
                loose += [segment] if segment == '**' else ['**', segment]
            near += [self.paths[i] for i in self.select([tuple(loose)])]
        if not near:
            depth = pattern.count('.')
            similar = {
                path: None
                for path in self.paths
                if path and abs(path.count('.') - depth) <= 1
            }
            near = difflib.get_close_matches(
                pattern, list(similar)[:5000], n=count, cutoff=0.5
            )
        return list(dict.fromkeys(near))[:count]


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
        elif len(children) == 1:
            inner = next(
                (children[name] for name in _WRAPPED_AS if name in children),
                None,
            )
        if inner is None:
            return module
        module = inner
