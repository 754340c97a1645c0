"""Which tensors of a model a checkpoint supplied.

Every way to load a state dict, torch's and MMEngine's, ends in
``nn.Module._load_from_state_dict``, called once for each module after the
model's own hooks have renamed the keys. Recording listens there, from the
moment that this module is imported: a model may load weights in its
constructor, and ``FlexibleRunner`` loads before it calls any hook. It changes
nothing for others: no module carries anything, so that a copy of a model does
not either, nothing is kept alive, and no tensor is referred to.
"""

import weakref
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

from ..processes.units import is_made_anew, original
from .tree import Entry, ModelTree, Module, unwrap
from .whole import WholeModel


@dataclass
class Load:
    """A state dict that was loaded into a module, as far as was seen.

    Attributes:
        names (list[str]): Its names.
        used (int): How many tensors of the module it supplied.
    """

    names: List[str]
    used: int = 0


@dataclass
class Recorded:
    """What was loaded into a model since this package was imported.

    Attributes:
        names (set[str]): State-dict names of the tensors.
        whole (set[str]): Paths of the modules that were given a state dict as
            a whole, of which something fitted.
        useless (list[tuple[str, int, str]]): Paths of those that nothing
            fitted; how many tensors the state dict had; what would fit.
    """

    names: Set[str] = field(default_factory=set)
    whole: Set[str] = field(default_factory=set)
    useless: List[Tuple[str, int, str]] = field(default_factory=list)


# Of each module that loading came by, what was loaded into it: keys, and
# `id()` of the parameters.
_keys: 'weakref.WeakKeyDictionary[nn.Module, Dict[str, int]]' = (
    weakref.WeakKeyDictionary()
)
# Of each module that loading began with, the last state dicts.
_loads: 'weakref.WeakKeyDictionary[nn.Module, List[Load]]' = (
    weakref.WeakKeyDictionary()
)
_MOST_LOADS = 8
# An attribute of loaded parameters, the keys that were loaded with it: some
# code hangs parameters into other modules (`revert_sync_batchnorm`). It goes
# where a parameter goes, and no copy has it.
_TOGETHER = '_mmpartinit_loaded_with'
_MARK = 'records_loads'  # on what replaces torch's own
_listeners: List[Callable[[nn.Module, Set[str]], None]] = []


@contextmanager
def record_loads(model: nn.Module) -> Iterator[Set[str]]:
    """Record which tensors of a model are loaded meanwhile.

    A tensor whose shape does not match was not loaded. One that is overwritten
    later still counts.

    Args:
        model (nn.Module): The model, wrapped or not. It is only read, and
            nothing is attached to it.

    Yields:
        set[str]: State-dict names of the parameters and persistent buffers
        loaded so far, without prefixes of wrappers. It grows until the end of
        the block and stays valid after it.

    Examples:
        >>> with record_loads(model) as loaded:
        ...     model.load_state_dict(torch.load('r50.pth'), strict=False)
        >>> init_modules(model, modules, loaded=loaded)
    """
    entries: Dict[int, List[Entry]] = {}
    for entry in WholeModel(model).tree.entries:
        entries.setdefault(id(entry.owner), []).append(entry)
    names: Set[str] = set()

    def note(module: nn.Module, keys: Set[str]) -> None:
        under = entries.get(id(module), ())
        names.update(entry.path for entry in under if entry.key in keys)

    _listeners.append(note)
    try:
        yield names
    finally:
        _listeners.remove(note)


def recorded(tree: ModelTree) -> Recorded:
    """What was loaded into a model since this package was imported."""
    found = Recorded({e.path for e in tree.entries if _is_loaded(e)})
    for node in tree.nodes:
        loads = isinstance(node, Module) and _loads.get(node.value)
        if loads and any(load.used for load in loads):
            found.whole.add(node.path)
        elif loads and loads[-1].names:
            names = loads[-1].names
            fits = _what_fits(tree, node.path, names)
            found.useless.append((node.path, len(names), fits))
    return found


def _what_fits(tree: ModelTree, path: str, names: List[str]) -> str:
    """What to do with a state dict of which no name is that of a module."""
    start = path + '.' if path else ''
    paths = [e.path for e in tree.entries if e.path.startswith(start)]
    there = [name[len(start) :] for name in paths]
    for heads, said in (
        (_heads(names, set(there)), "with prefix='{0}.' {1} would"),
        (_heads(there, set(names)), f'{{1}} would fit {start}{{0}}'),
    ):
        if heads:
            # Of several that fit as well, the least deep.
            head = min(heads, key=lambda name: (-heads[name], name.count('.')))
            return said.format(head, heads[head])
    return 'its names are others'


def _heads(longer: List[str], shorter: Set[str]) -> Counter:
    """What stands before names of the one side in those of the other."""
    return Counter(
        name[:place]
        for name in longer
        for place, letter in enumerate(name)
        if letter == '.' and name[place + 1 :] in shorter
    )


def _is_loaded(entry: Entry) -> bool:
    tensor, keys = original(entry.value), _keys.get(entry.owner)
    if isinstance(tensor, nn.Parameter) and not is_made_anew(tensor):
        is_same = (keys or {}).get(entry.key) == id(tensor)
        return is_same or hasattr(tensor, _TOGETHER)
    if keys is not None:
        return entry.key in keys
    return any(
        entry.key in getattr(parameter, _TOGETHER, ())
        for parameter in entry.owner._parameters.values()
    )


def _note(module: nn.Module, keys: Set[str], load: Optional[Load]) -> None:
    parameters = dict(module._parameters.items())
    for key in keys:
        parameter = parameters.get(key)
        _keys[module][key] = id(parameter)
        if parameter is not None:
            before = getattr(parameter, _TOGETHER, ())
            setattr(parameter, _TOGETHER, tuple({*before, *keys}))
    if load is not None:
        # Before torch 2.2, batch norm loads a counter of its own.
        load.used += len(keys - {'num_batches_tracked'})
    for listener in _listeners:
        listener(module, keys)


def _recording(original: Callable[..., None]) -> Callable[..., None]:
    """Have every module tell what it loads.

    `_load_from_state_dict` is private to torch, and the one place that knows:
    public hooks see neither the keys nor the shapes, and have to be attached
    to modules, which `EMAHook` and others copy.
    """
    current: Optional[Load] = None

    def _load_from_state_dict(
        self: nn.Module,
        state_dict: Dict[str, Any],
        prefix: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        nonlocal current
        if not prefix:
            current = Load(list(state_dict))
            loads = _loads.setdefault(unwrap(self), [])
            loads[:] = [*loads[1 - _MOST_LOADS :], current]
        before = _tensors(self)
        if before:
            _keys.setdefault(self, {})
        original(self, state_dict, prefix, *args, **kwargs)
        keys = {
            key
            for key, tensor in _tensors(self).items()
            if _fits(tensor, state_dict.get(prefix + key))
            # Batch norm fills in its own counter where a checkpoint lacks it.
            and state_dict[prefix + key] is not before.get(key)
        }
        if keys:
            _note(self, keys, current)

    setattr(_load_from_state_dict, _MARK, True)
    return _load_from_state_dict


def _tensors(module: nn.Module) -> Dict[str, Any]:
    # What a ScriptModule has in their place are no dicts.
    kinds = (module._parameters, module._buffers)
    return {key: value for kind in kinds for key, value in kind.items()}


def _fits(tensor: Any, value: Any) -> bool:
    return (
        isinstance(tensor, Tensor)
        and isinstance(value, Tensor)
        and not is_lazy(tensor)
        and (
            value.shape == tensor.shape
            # torch takes a scalar from a list, as very old checkpoints have.
            or (tensor.dim() == 0 and value.dim() == 1)
        )
    )


if not hasattr(nn.Module._load_from_state_dict, _MARK):
    nn.Module._load_from_state_dict = _recording(
        nn.Module._load_from_state_dict
    )
