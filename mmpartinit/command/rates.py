"""The keys of MMEngine's ``paramwise_cfg`` that name new parts."""

from typing import Any, Collection, Dict, List

import torch.nn as nn

from ..model.blocks import outermost_new
from ..model.tree import ModelTree


def custom_keys(tree: ModelTree, names: Collection[str]) -> Dict[str, Any]:
    """Keys that are in the names of some new tensors and of no others, each
    with a learning rate ten times as high.

    MMEngine looks for a key anywhere in a parameter's name, so that ``.se.``
    does where nothing else is called so; else it is as much of the path as it
    takes.

    Args:
        tree (ModelTree): The model.
        names (Collection[str]): The tensors, by name.
    """
    others = [
        entry.path
        for entry in tree.entries
        if isinstance(entry.value, nn.Parameter) and entry.path not in names
    ]
    keys: Dict[str, Any] = {}
    for node in outermost_new(tree, names):
        is_module = isinstance(node.value, nn.Module)
        for end in _ends(node.path):
            key = f'{end}.' if is_module else end
            if not any(key in name for name in others):
                keys[key] = dict(lr_mult=10.0)
                break
    return keys


def _ends(path: str) -> List[str]:
    """The last segment of a path behind a dot, the last two, and so on; at
    last the path.
    """
    segments = path.split('.')
    counts = range(1, len(segments))
    return [*('.' + '.'.join(segments[-n:]) for n in counts), path]
