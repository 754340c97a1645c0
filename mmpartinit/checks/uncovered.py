"""New tensors of a pretrained model that no rule covers."""

import math
from collections import Counter
from typing import Dict, Iterable, List, Sequence, Set

from ..model.blocks import outermost_new, own_starts
from ..model.origins import Origins
from ..model.tree import ModelTree, Module, Node
from ..rules.matching import Match

# A part of which so much was put in by code was pretrained; formulas are less.
_MOST_FORMULAS = 0.25
# Parts of the names of parameters that are added to something: at 0 they say
# nothing of a block. mmcv's ConvModule has any bias start there.
_ADDED = ('bias', 'beta', 'embed', 'token')
# Factors of layer scales start at 0.1 at most; temperatures do at 1 or above.
_SMALL = 0.1


def uncovered(
    tree: ModelTree, origins: Origins, matches: Iterable[Match]
) -> List[str]:
    """New tensors that no rule covers, beside loaded ones: in parts of the
    model (``backbone``) that hold some, and in modules that were given a
    state dict as a whole.
    """
    covered, kept = _covered(tree, matches), origins.kept
    new = [
        entry.path
        for entry in tree.entries
        if entry.path not in kept
        and entry.path not in covered
        and not entry.is_counter
    ]
    beside = pretrained_parts(tree, origins)
    whole = [f'{path}.' if path else '' for path in origins.loaded_into]
    return [
        name
        for name in new
        if name.partition('.')[0] in beside
        or any(name.startswith(start) for start in whole)
    ]


def without_start(
    tree: ModelTree,
    origins: Origins,
    matches: Iterable[Match],
    names: Sequence[str],
    misfits: Iterable[str],
) -> List[str]:
    """Those uncovered tensors that no code of the model's has a start for.

    A block whose code put zeros, or little more, into a weight or a factor of
    it has said how it starts, and what it leaves to chance belongs to that;
    but a rule may have another say, and what a file has in another form
    (``misfits``) is to come from there.
    """
    if not names:
        return []
    blocks = _blocks(tree, origins, names)
    wrong = {*misfits, *origins.lost}
    within = {e.path for node in blocks for e in node.tensors()}
    own = own_starts(tree, origins, within - _covered(tree, matches))
    started: Set[str] = set()
    for node in blocks:
        paths = {entry.path for entry in node.tensors()}
        if wrong.isdisjoint(paths) and _has_start(node, own, origins):
            started |= paths
    started = tree.with_sharing(started)  # a module at two places
    return [name for name in names if name not in started]


def _blocks(
    tree: ModelTree, origins: Origins, names: Sequence[str]
) -> List[Node]:
    """The largest new parts of a model that some uncovered tensors are in."""
    new = {
        entry.path
        for entry in tree.entries
        if entry.path not in origins.files
        # What is put in may be a copy of something pretrained.
        and (
            entry.path not in origins.code
            or entry.path in origins.constant
            or not entry.is_parameter
        )
    }
    uncovered = set(names)
    return [
        node
        for node in outermost_new(tree, new)
        if not uncovered.isdisjoint(e.path for e in node.tensors())
    ]


def _has_start(node: Node, own: Dict[str, float], origins: Origins) -> bool:
    """Whether what a block's code put into some of it says how all of it
    starts.
    """
    entries = [entry for entry in node.tensors() if entry.is_parameter]
    is_layer = not (isinstance(node, Module) and node.value._modules)
    if is_layer and all(e.path in origins.constant for e in entries):
        return any(entry.path in own for entry in entries)
    # A weight at 0 and a drawn bias is a layer half done.
    silent = (*_ADDED, 'weight') if is_layer else _ADDED
    return any(
        abs(own.get(entry.path, math.inf)) <= _SMALL
        and not any(word in entry.key for word in silent)
        for entry in entries
    )


def _covered(tree: ModelTree, matches: Iterable[Match]) -> Set[str]:
    return tree.with_sharing(
        entry.path for match in matches for entry in [*match.new, *match.kept]
    )


def pretrained_parts(tree: ModelTree, origins: Origins) -> Set[str]:
    """Parts of the model that hold loaded tensors, or of which so much was
    put in by code that it cannot be formulas.
    """
    sizes: Counter = Counter()
    put_in: Counter = Counter()
    parts = set()
    for entry in tree.entries:
        part, _, inner = entry.path.partition('.')
        if not inner:
            continue
        if entry.path in origins.files:
            parts.add(part)
        elif entry.is_parameter and origins.code:
            sizes[part] += entry.value.numel()
            if entry.path in origins.code:
                put_in[part] += entry.value.numel()
    return parts | {
        part for part in put_in if put_in[part] >= _MOST_FORMULAS * sizes[part]
    }
