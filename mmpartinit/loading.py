"""Which tensors of a model a checkpoint supplied, by whatever code.

Every way to load a state dict, torch's and MMEngine's, ends in
``nn.Module._load_from_state_dict``, called once for each module after the
model's own hooks have renamed the keys. Recording listens there. Nothing is
attached to a model, so that a copy of it carries nothing either.
"""

import weakref
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Set

import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

from .paths import ModelTree, Slot

Listener = Callable[[nn.Module, Set[str]], None]
_listeners: List[Listener] = []
_restore: List[Callable[[], None]] = []


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
    slots: Dict[int, List[Slot]] = {}
    for slot in ModelTree(model).slots:
        slots.setdefault(id(slot.owner), []).append(slot)
    names: Set[str] = set()

    def note(module: nn.Module, keys: Set[str]) -> None:
        names.update(
            slot.name for slot in slots.get(id(module), ()) if slot.key in keys
        )

    _listen(note)
    try:
        yield names
    finally:
        _unlisten(note)


class LoadRecorder:
    """Records what is loaded into any module between start and stop.

    For the case that the model does not exist yet when recording begins.
    Modules are held weakly.
    """

    def __init__(self) -> None:
        self._keys: weakref.WeakKeyDictionary[nn.Module, Set[str]] = (
            weakref.WeakKeyDictionary()
        )

    def start(self) -> None:
        """Record from now on; nothing happens if it does already."""
        if self._note not in _listeners:
            _listen(self._note)

    def stop(self) -> None:
        """Record no longer; what was recorded stays."""
        _unlisten(self._note)

    def names(self, model: nn.Module) -> Set[str]:
        """State-dict names of a model's loaded tensors, as
        :func:`record_loads` gives them.
        """
        return {
            slot.name
            for slot in ModelTree(model).slots
            if slot.key in self._keys.get(slot.owner, ())
        }

    def _note(self, module: nn.Module, keys: Set[str]) -> None:
        self._keys.setdefault(module, set()).update(keys)


def _listen(listener: Listener) -> None:
    if not _listeners:
        _restore.append(_replace_loading())
    _listeners.append(listener)


def _unlisten(listener: Listener) -> None:
    if listener in _listeners:
        _listeners.remove(listener)
        if not _listeners:
            _restore.pop()()


def _replace_loading() -> Callable[[], None]:
    """Have every module tell the listeners what it loads.

    `_load_from_state_dict` is private to torch, and the one place that knows:
    public hooks see neither the keys nor the shapes, and have to be attached
    to modules, which `EMAHook` and others copy.
    """
    original = nn.Module._load_from_state_dict

    def load(
        self: nn.Module,
        state_dict: Dict[str, Any],
        prefix: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        own = {**self._parameters, **self._buffers}
        if not own:
            original(self, state_dict, prefix, *args, **kwargs)
            return
        original(self, state_dict, prefix, *args, **kwargs)
        keys = {
            key
            for key, tensor in {**self._parameters, **self._buffers}.items()
            if _fits(tensor, state_dict.get(prefix + key))
            # Batch norm fills in its own counter where a checkpoint lacks it.
            and state_dict[prefix + key] is not own.get(key)
        }
        if keys:
            for listener in _listeners:
                listener(self, keys)

    def restore() -> None:
        # Unless someone else has put theirs on top: then ours stays below it,
        # without listeners.
        if nn.Module._load_from_state_dict is load:
            nn.Module._load_from_state_dict = original

    nn.Module._load_from_state_dict = load
    return restore


def _fits(tensor: Optional[Tensor], value: Any) -> bool:
    return (
        isinstance(tensor, Tensor)
        and not is_lazy(tensor)
        and isinstance(value, Tensor)
        and value.shape == tensor.shape
    )
