"""What became of a state dict that was loaded as a whole."""

from collections import defaultdict
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from torch.nn.parameter import is_lazy

from .loading import Load
from .tree import ModelTree


class Checkpoint(NamedTuple):
    """A state dict that was loaded into a module.

    Attributes:
        path (str): Path of the module, ``''`` for the model.
        file (str, optional): The file that it was read from, where known.
        tensors (int): How many tensors it has.
        used (int): How many of them went into the module.
        shapes (list[tuple]): Of those that have another shape in the model:
            the name there, the shape in the file, the shape in the model.
        unused (dict[str, list[int]]): Those that have no place in the module,
            and their shapes.
    """

    path: str
    file: Optional[str]
    tensors: int
    used: int
    shapes: List[Tuple[str, List[int], List[int]]]
    unused: Dict[str, List[int]]


def outcome(
    tree: ModelTree, path: str, load: Load, file: Optional[str]
) -> Checkpoint:
    """Say what became of a state dict that was loaded at a path."""
    there = _under(tree, path)
    left = {n: s for n, s in load.shapes.items() if n not in load.records}
    start = _head(path)
    shapes = [
        (start + name, shape, there[name])
        for name, shape in left.items()
        if name in there and there[name] != shape
    ]
    unused = {n: shape for n, shape in left.items() if n not in there}
    used = len(load.records) if load.used else 0
    return Checkpoint(path, file, len(load.shapes), used, shapes, unused)


class Renaming(NamedTuple):
    """What a renaming would load.

    Attributes:
        old (str): How names begin in the file, ``''`` or up to a dot.
        new (str): How they begin in the module.
        names (list[str]): Names of the model's tensors that would fit.
    """

    old: str
    new: str
    names: List[str]


def renaming(
    tree: ModelTree, checkpoint: Checkpoint, new: Iterable[str]
) -> Optional[Renaming]:
    """The exchange of one prefix that makes most of a checkpoint's unused
    tensors fit new ones of the model, by the rest of their names and by their
    shapes.
    """
    there, start = _under(tree, checkpoint.path), _head(checkpoint.path)
    heads = defaultdict(list)
    for name, shape in checkpoint.unused.items():
        for head, tail in _splits(name):
            heads[tail, tuple(shape)].append(head)
    pairs = defaultdict(list)
    for name in new:
        inner = name[len(start) :]
        if name.startswith(start) and inner in there:
            for head, tail in _splits(inner):
                for other in heads.get((tail, tuple(there[inner])), ()):
                    # `weight` alone is in everything, unless it is all that
                    # there is, as where a layer is loaded into a model.
                    if '.' in tail or not (checkpoint.used or head and other):
                        pairs[other, head].append(name)
    if not pairs:
        return None
    # Of several that fit as well, the shortest.
    best = max(pairs, key=lambda p: (len(pairs[p]), -len(p[0] + p[1])))
    return Renaming(*best, pairs[best])


def _under(tree: ModelTree, path: str) -> Dict[str, List[int]]:
    """Shapes of the tensors under a path, by their names from there."""
    start = _head(path)
    return {
        entry.path[len(start) :]: list(entry.value.shape)
        for entry in tree.entries
        if entry.path.startswith(start) and not is_lazy(entry.value)
    }


def _head(path: str) -> str:
    return path + '.' if path else ''


def _splits(name: str) -> Iterable[Tuple[str, str]]:
    """A name cut in two, wherever it can be."""
    segments = name.split('.')
    for i in range(len(segments)):
        yield ''.join(f'{s}.' for s in segments[:i]), '.'.join(segments[i:])
