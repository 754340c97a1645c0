"""What became of a state dict that was loaded as a whole."""

from collections import defaultdict
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from torch.nn.parameter import is_lazy

from .loading import Load
from .renaming import Revision, revision
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
        head (str, optional): How the file's names start, where those of the
            state dict lack that; None if it is not known.
    """

    path: str
    file: Optional[str]
    tensors: int
    used: int
    shapes: List[Tuple[str, List[int], List[int]]]
    unused: Dict[str, List[int]]
    head: Optional[str] = None


def outcome(
    tree: ModelTree,
    path: str,
    load: Load,
    file: Optional[str],
    head: Optional[str] = None,
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
    count = len(load.shapes)
    return Checkpoint(path, file, count, used, shapes, unused, head)


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


def revised(
    tree: ModelTree, checkpoint: Checkpoint, new: Iterable[str]
) -> Optional[Revision]:
    """The renaming that makes a checkpoint's unused tensors fit new ones of
    the model, if their names leave no doubt.
    """
    there, start = _under(tree, checkpoint.path), _head(checkpoint.path)
    inner = {n[len(start) :] for n in new if n.startswith(start)}
    shapes = {name: there[name] for name in inner if name in there}
    # Counters are not new, and may be in the file under other names too.
    counters = {e.path[len(start) :] for e in tree.entries if e.is_counter}
    loaded = there.keys() - inner - counters
    sure = revision(checkpoint.unused, shapes, loaded)
    return sure and sure._replace(names=[start + n for n in sure.names])


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
