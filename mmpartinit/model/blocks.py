"""The new parts of a model, and what their own code starts them with."""

import math
from typing import Any, Collection, Dict, List, Optional, Tuple

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

from ..initializers.layers import own_reset
from ..seeding import random_state_kept
from .origins import Origins
from .tree import Entry, ModelTree, Module, Node
from .values import one_value

_NORM = dict(weight=1.0, bias=0.0, gamma=1.0, beta=0.0)


def outermost_new(tree: ModelTree, names: Collection[str]) -> List[Node]:
    """The largest parts of a model, in order, of which all tensors are among
    the names of the new ones.

    Lists of modules are left out in favour of what is in them.
    """
    found: List[Node] = []
    end = 0
    for node in tree.nodes if names else ():
        if node.number < end:
            continue  # in one that was found
        entries = node.tensors()
        if (
            all(entry.path in names or entry.is_counter for entry in entries)
            and not all(entry.is_counter for entry in entries)
            and node.path
            and type(node.value) not in (nn.ModuleList, nn.ModuleDict)
            and node is tree.first(node)
        ):
            found.append(node)
            end = node.end
    return found


def outermost_still(
    tree: ModelTree, names: Collection[str]
) -> List[nn.Module]:
    """The largest modules with tensors of these names, and with no parameter
    that needs a gradient.
    """
    found = [
        node
        for node in tree.nodes
        if isinstance(node, Module)
        and any(entry.path in names for entry in node.tensors())
        and not any(
            entry.is_parameter and entry.value.requires_grad
            for entry in node.tensors()
        )
    ]
    return [node.value for node in tree.outermost(found)]


def own_starts(
    tree: ModelTree,
    origins: Origins,
    names: Optional[Collection[str]] = None,
) -> Dict[str, float]:
    """Constants that a model's own code chose: those of parameters that no
    file decided, other than the class of their layer starts with by itself.

    With ``names``, only those are looked at. Where no values were looked at
    to find their origins, there is nothing to tell.
    """
    found: Dict[str, float] = {}
    known: Dict[Any, Dict[str, float]] = {}
    for entry in tree.entries:
        name = entry.path
        if (
            name in origins.constant
            and name not in origins.files
            and (names is None or name in names)
            and entry.is_parameter
        ):
            layer, key = _layer_of(tree, entry)
            form = _form(layer)
            if form not in known:
                known[form] = _by_class(layer)
            value = origins.constant[name]
            if known[form].get(key) != value:
                found[name] = value
    return found


def _layer_of(tree: ModelTree, entry: Entry) -> Tuple[nn.Module, str]:
    """What a tensor is a part of, and its name there: the module that it
    hangs in, but for an attention's output layer.
    """
    owner = entry.path.rpartition('.')[0]
    above, _, name = owner.rpartition('.')
    if owner and isinstance(tree.index[above].value, nn.MultiheadAttention):
        return tree.index[above].value, f'{name}.{entry.key}'
    return entry.owner, entry.key


def _form(layer: nn.Module) -> Tuple[Any, ...]:
    """What the constants of a layer's class depend on."""
    tensors = [(k, p) for k, p in layer.named_parameters() if not is_lazy(p)]
    return (type(layer), *((k, p.shape, p.dtype) for k, p in tensors))


def _by_class(layer: nn.Module) -> Dict[str, float]:
    """The constants that a layer's class starts with, by name: what PyTorch's
    own code writes to a copy of it. Other code is the user's, and its
    constants a choice; but norms start at 1 and 0 whoever wrote them.
    """
    if isinstance(layer, nn.PReLU):  # it takes any value for its own
        return dict(weight=0.25)
    module = getattr(own_reset(layer), '__module__', '')
    if not module.startswith('torch.'):
        return _NORM if 'Norm' in type(layer).__name__ else {}
    twin = _hollow(layer)
    reset: Any = own_reset(twin)
    with random_state_kept([]), torch.no_grad():
        reset()
    values = {name: one_value(p) for name, p in twin.named_parameters()}
    return {name: v for name, v in values.items() if v is not None}


def _hollow(layer: nn.Module) -> nn.Module:
    """A copy of a layer that shares no memory with it and holds nothing: it
    may be large, or lie in parts.
    """
    twin: nn.Module = object.__new__(type(layer))
    for key, value in vars(layer).items():
        if isinstance(value, Tensor):  # computed from parameters
            value = _empty(value)
        elif key in ('_parameters', '_buffers'):
            value = {
                k: v if v is None else _empty(v) for k, v in value.items()
            }
        elif key == '_modules':
            value = {
                k: v if v is None else _hollow(v) for k, v in value.items()
            }
        twin.__dict__[key] = value
    return twin


def _empty(tensor: Tensor) -> Tensor:
    # Not a number, so that what nobody writes is no constant.
    fill = math.nan if tensor.is_floating_point() else 0
    empty = torch.full(tuple(tensor.shape), fill, dtype=tensor.dtype)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, tensor.requires_grad)
    return empty
