"""The parts of a network and of the one that it was made from: which module of
one is which of the other.

By values, since names move: a block that is put into a Sequential shifts the
indices of what comes after it.
"""

import hashlib
from typing import Any, Collection, Dict, List, NamedTuple, Sequence, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from ..model.tensors import holds_values
from ..model.tree import ModelTree
from ..processes.ranks import as_bytes


class Part(NamedTuple):
    """A module that itself holds tensors which were loaded.

    Attributes:
        path (str): Its path.
        module (nn.Module): The module.
        tensors (dict[str, Tensor]): What was loaded, by its name in there.
    """

    path: str
    module: nn.Module
    tensors: Dict[str, Tensor]


class Pair(NamedTuple):
    """A part of the pretrained network, and what it is in the other one."""

    base: Part
    ours: Part


class Pairs(NamedTuple):
    """Which part is which.

    Attributes:
        both (list[Pair]): Parts that both networks have.
        unloaded (list[str]): Loaded tensors of the pretrained network whose
            values are not in the other one.
        shifted (list[tuple[str, str]]): Of those, modules that are in the
            other one under another index, with their paths in either.
    """

    both: List[Pair]
    unloaded: List[str]
    shifted: List[Tuple[str, str]]


def loaded_parts(tree: ModelTree, loaded: Collection[str]) -> List[Part]:
    """The parts of a model, where some tensors were loaded, in its order."""
    found: Dict[int, Part] = {}
    for entry in tree.entries:
        if entry.path in loaded and not entry.is_counter:
            path = entry.path[: -len(entry.key) - 1]
            first = Part(path, entry.owner, {})
            part = found.setdefault(id(entry.owner), first)
            part.tensors[entry.key] = entry.value
    return list(found.values())


def pair_parts(
    base_tree: ModelTree,
    base: Sequence[Part],
    our_tree: ModelTree,
    ours: Sequence[Part],
) -> Pairs:
    """Find each part of the pretrained network in the other one: by what was
    loaded into it, else by its path.
    """
    found = _by_values(base, ours)
    used = {part.path for part in found.values()}
    left = {part.path: part for part in ours if part.path not in used}
    unloaded: List[str] = []
    for part in base:
        if part.path in found:
            continue
        other = left.get(part.path)
        if other is not None and _fit(part, other):
            found[part.path] = left.pop(part.path)
        else:
            unloaded += _names(part)
    both = [Pair(p, found[p.path]) for p in base if p.path in found]
    paths = [part.path for part in base if part.path not in found]
    return Pairs(both, unloaded, _shifted(base_tree, our_tree, paths))


def drawn_in_both(
    base: ModelTree, ours: ModelTree, pairs: Pairs
) -> List[Tuple[Tensor, Tensor]]:
    """Tensors that were loaded in neither network, as those of a new head are,
    and are at the same path in both: those of the pretrained one first.
    """
    loaded = {
        id(tensor)
        for pair in pairs.both
        for part in pair
        for tensor in part.tensors.values()
    }
    values = {e.path: e.value for e in ours.entries if not e.is_counter}
    return [
        (entry.value, values[entry.path])
        for entry in base.entries
        if entry.path in values
        and entry.value.shape == values[entry.path].shape
        and not loaded & {id(entry.value), id(values[entry.path])}
    ]


def new_modules(
    tree: ModelTree, pairs: Pairs, drawn: Sequence[Tuple[Tensor, Tensor]]
) -> List[Part]:
    """Modules of which nothing is in the pretrained network, outermost."""
    known = {id(t) for pair in pairs.both for t in pair.ours.tensors.values()}
    known.update(id(target) for _, target in drawn)
    nodes = [
        node
        for node in tree.nodes
        if isinstance(node.value, nn.Module)
        and any(isinstance(e.value, nn.Parameter) for e in node.tensors())
        and not any(id(e.value) in known for e in node.tensors())
    ]
    return [Part(n.path, n.value, {}) for n in tree.outermost(nodes)]


def copy_values(tensors: Sequence[Tuple[Tensor, Tensor]]) -> None:
    """Give the second of two tensors the values of the first: what both
    networks draw would else be another thing in each.
    """
    with torch.no_grad():
        for source, target in tensors:
            target.copy_(source)


def _by_values(base: Sequence[Part], ours: Sequence[Part]) -> Dict[str, Part]:
    """Parts by the path of the one that was loaded the same. Of several alike
    the one at the same path, else the next.
    """
    alike: Dict[str, Dict[str, Part]] = {}
    for part in ours:
        alike.setdefault(_fingerprint(part), {})[part.path] = part
    prints = {part.path: _fingerprint(part) for part in base}
    found = {}
    for part in base:
        same = alike.get(prints[part.path], {})
        if part.path in same:
            found[part.path] = same.pop(part.path)
    for part in base:
        same = alike.get(prints[part.path], {})
        if part.path not in found and same:
            found[part.path] = same.pop(next(iter(same)))
    return found


def _fingerprint(part: Part) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(part.tensors):
        tensor = part.tensors[key]
        digest.update(f'{key} {tensor.shape} {tensor.dtype}'.encode())
        if holds_values(tensor):
            digest.update(as_bytes(tensor.cpu()).numpy())
    return digest.hexdigest()


def _fit(base: Part, ours: Part) -> bool:
    """Whether all that one has is in the other, whatever its values."""
    return all(
        key in ours.tensors and ours.tensors[key].shape == tensor.shape
        for key, tensor in base.tensors.items()
    )


def _names(part: Part) -> List[str]:
    start = f'{part.path}.' if part.path else ''
    return [start + key for key in part.tensors]


def _shifted(
    base: ModelTree, ours: ModelTree, paths: Sequence[str]
) -> List[Tuple[str, str]]:
    """Those of some modules that have another index in the other model."""
    found: Dict[str, str] = {}
    for path in paths:
        segments = path.split('.')
        for depth, segment in enumerate(segments):
            above = '.'.join(segments[:depth])
            if segment.isdigit() and above in ours.index:
                places = _places(
                    _children(base, above), _children(ours, above)
                )
                new = places.get(segment, segment)
                if new != segment:
                    start = f'{above}.' if above else ''
                    found[start + segment] = start + new
                    break
    return list(found.items())


def _children(tree: ModelTree, path: str) -> List[Tuple[str, Any]]:
    """Names of the children of a module, and what tells their kind: classes
    and shapes.
    """
    module = tree.index[path].value
    if not isinstance(module, nn.Module):
        return []
    return [(name, _kind(child)) for name, child in module.named_children()]


def _kind(module: nn.Module) -> Tuple[Any, ...]:
    shapes = [(name, *p.shape) for name, p in module.named_parameters()]
    return (type(module).__name__, *shapes)


def _places(
    base: Sequence[Tuple[str, Any]], ours: Sequence[Tuple[str, Any]]
) -> Dict[str, str]:
    """Where each child of a module is, after others were put in between: the
    longest common subsequence of their kinds.
    """
    n, m = len(base), len(ours)
    most = [[0] * (m + 1) for _ in range(n + 1)]
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            most[i][j] = (
                most[i + 1][j + 1] + 1
                if base[i][1] == ours[j][1]
                else max(most[i + 1][j], most[i][j + 1])
            )
    places, i, j = {}, 0, 0
    while i < n and j < m:
        if base[i][1] == ours[j][1]:
            places[base[i][0]] = ours[j][0]
            i, j = i + 1, j + 1
        elif most[i + 1][j] >= most[i][j + 1]:
            i += 1
        else:
            j += 1
    return places
