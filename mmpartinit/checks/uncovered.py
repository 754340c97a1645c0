"""New tensors of a pretrained model that no rule covers."""

from collections import Counter
from typing import Iterable, List, Set

import torch.nn as nn

from ..model.origins import Origins
from ..model.tree import ModelTree
from ..rules.matching import Match

# A part of which so much was put in by code was pretrained; formulas are less.
_MOST_FORMULAS = 0.25


def uncovered(
    tree: ModelTree, origins: Origins, matches: Iterable[Match]
) -> List[str]:
    """New tensors that no rule covers, beside loaded ones: in parts of the
    model (``backbone``) that hold some, and in modules that were given a
    state dict as a whole.
    """
    covered = tree.with_sharing(
        entry.path for match in matches for entry in [*match.new, *match.kept]
    )
    kept = origins.kept
    new = [
        entry.path
        for entry in tree.entries
        if entry.path not in kept
        and entry.path not in covered
        and not entry.is_counter
    ]
    beside = pretrained_parts(tree, origins)
    whole = [f'{path}.' if path else '' for path in origins.whole]
    return [
        name
        for name in new
        if name.partition('.')[0] in beside
        or any(name.startswith(start) for start in whole)
    ]


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
        elif isinstance(entry.value, nn.Parameter) and origins.code:
            sizes[part] += entry.value.numel()
            if entry.path in origins.code:
                put_in[part] += entry.value.numel()
    return parts | {
        part for part in put_in if put_in[part] >= _MOST_FORMULAS * sizes[part]
    }
