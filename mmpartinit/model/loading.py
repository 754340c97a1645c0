"""Which tensors of a model a checkpoint supplied.

Every way to load a state dict, torch's and MMEngine's, ends in
``nn.Module._load_from_state_dict``, called once for each module after the
model's own hooks have renamed the keys. Recording listens there, from the
moment that this module is imported: a model may load weights in its
constructor, and ``FlexibleRunner`` loads before it calls any hook. Nothing is
attached to a model, so that a copy of it carries nothing either, and nothing
is kept alive.
"""

import weakref
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Set

import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

from ..processes.units import is_made_anew, original
from .tree import Entry, ModelTree
from .whole import WholeModel

# What was loaded since the import. Parameters are known by themselves, since
# some code hangs them into other modules (`revert_sync_batchnorm`); buffers by
# their place, since `.to()` makes new ones, and by the parameters that were
# loaded into the same module.
_loaded_parameters: Dict[int, 'weakref.ref[Tensor]'] = {}
_loaded_keys: 'weakref.WeakKeyDictionary[nn.Module, Set[str]]' = (
    weakref.WeakKeyDictionary()
)
_loaded_with: Dict[int, Set[str]] = {}
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


def recorded(tree: ModelTree) -> Set[str]:
    """Names, as :func:`record_loads` gives them, of what was loaded into a
    model since this package was imported.
    """
    return {entry.path for entry in tree.entries if _is_loaded(entry)}


def _is_loaded(entry: Entry) -> bool:
    tensor, owner = original(entry.value), entry.owner
    if isinstance(tensor, nn.Parameter):
        if _is_known(tensor):
            return True
        if not is_made_anew(tensor):
            return False
    return entry.key in _loaded_keys.get(owner, ()) or any(
        entry.key in _loaded_with.get(id(parameter), ())
        for parameter in owner._parameters.values()
        if _is_known(parameter)
    )


def _is_known(tensor: Any) -> bool:
    known = _loaded_parameters.get(id(tensor))
    return known is not None and known() is tensor


def _note(module: nn.Module, keys: Set[str]) -> None:
    _loaded_keys.setdefault(module, set()).update(keys)
    for key in keys:
        parameter = module._parameters.get(key)
        if parameter is not None:
            number = id(parameter)
            _loaded_parameters[number] = weakref.ref(
                parameter, partial(_forget, number)
            )
            _loaded_with.setdefault(number, set()).update(keys)
    for listener in _listeners:
        listener(module, keys)


def _forget(number: int, _: Any) -> None:
    _loaded_parameters.pop(number, None)
    _loaded_with.pop(number, None)


def _recording(original: Callable[..., None]) -> Callable[..., None]:
    """Have every module tell what it loads.

    `_load_from_state_dict` is private to torch, and the one place that knows:
    public hooks see neither the keys nor the shapes, and have to be attached
    to modules, which `EMAHook` and others copy.
    """

    def _load_from_state_dict(
        self: nn.Module,
        state_dict: Dict[str, Any],
        prefix: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        before = {**self._parameters, **self._buffers}
        original(self, state_dict, prefix, *args, **kwargs)
        if not before:
            return
        keys = {
            key
            for key, tensor in {**self._parameters, **self._buffers}.items()
            if _fits(tensor, state_dict.get(prefix + key))
            # Batch norm fills in its own counter where a checkpoint lacks it.
            and state_dict[prefix + key] is not before.get(key)
        }
        if keys:
            _note(self, keys)

    setattr(_load_from_state_dict, _MARK, True)
    return _load_from_state_dict


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
