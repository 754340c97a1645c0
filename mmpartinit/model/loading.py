"""Which tensors of a model were loaded, with which values and from where.

Every way to load a state dict, torch's and MMEngine's, ends in
``nn.Module._load_from_state_dict``, called once for each module after the
model's own hooks have renamed the keys. Recording listens there, from the
moment that this module is imported: a model that a Runner is given as an
object has loaded its weights before any hook is built. It changes nothing for
others: no module and no parameter carries anything, and no tensor of theirs
is referred to. Of what was loaded, a few values are kept to know it by.
"""

import threading
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

from ..initializers.shapes import differ
from .tensors import Place, memory_of, place_of
from .tree import Entry, ModelTree, Module, unwrap
from .values import Trace, trace
from .whole import WholeModel


class Record(NamedTuple):
    """A tensor that was loaded.

    Attributes:
        trace (Trace, optional): What it is known by; None where there were
            no values to read.
        source (tuple, optional): Memory that they were copied from, and where
            in it; None where there is none to tell apart.
        times (int): How often it has been loaded, this time included.
    """

    trace: Optional[Trace]
    source: Optional[Place]
    times: int


@dataclass
class Load:
    """A state dict that was loaded into a module, as far as was seen.

    Attributes:
        shapes (dict[str, list[int]]): Its tensors: names and shapes.
        records (dict[str, Record]): What went into the module.
        file (str, optional): The file that it was read from, where known.
    """

    shapes: Dict[str, List[int]]
    records: Dict[str, Record] = field(default_factory=dict)
    file: Optional[str] = None

    @property
    def used(self) -> int:
        """How many tensors of the module it supplied."""
        # Before torch 2.2, batch norm loads a counter of its own.
        return sum(not n.endswith('num_batches_tracked') for n in self.records)


@dataclass
class Recorded:
    """What was loaded into a model since this package was imported.

    Attributes:
        records (dict[str, Record]): By state-dict name of the tensor.
        loads (list[tuple[str, Load]]): The state dicts, and paths of the
            modules that they were loaded into, in order of the modules.
    """

    records: Dict[str, Record] = field(default_factory=dict)
    loads: List[Tuple[str, Load]] = field(default_factory=list)


# Of each module that loading came by, what was loaded into it, by key.
_records: 'weakref.WeakKeyDictionary[nn.Module, Dict[str, Record]]' = (
    weakref.WeakKeyDictionary()
)
# Of each module that loading began with, the last state dicts.
_loads: 'weakref.WeakKeyDictionary[nn.Module, List[Load]]' = (
    weakref.WeakKeyDictionary()
)
_MOST_LOADS = 8
_MARK = 'records_loads'  # on what replaces torch's own
_listeners: List[Callable[[nn.Module, Set[str], Set[str]], None]] = []
# The state dict that is being loaded, of each thread.
_current = threading.local()


@contextmanager
def record_loads(model: nn.Module) -> Iterator[Set[str]]:
    """Record which tensors of a model are loaded meanwhile.

    A tensor whose shape does not match was not loaded. One that is overwritten
    later still counts. Where the model's own state dict comes back, as after
    ``torch.distributed.checkpoint.load``, what has changed was loaded.

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
    entries: Dict[int, List[Tuple[Entry, Optional[Trace]]]] = {}
    for entry in WholeModel(model).tree.entries:
        first = entry, trace(entry.value)
        entries.setdefault(id(entry.owner), []).append(first)
    names: Set[str] = set()

    def note(module: nn.Module, keys: Set[str], own: Set[str]) -> None:
        for entry, first in entries.get(id(module), ()):
            if entry.key in keys or (
                entry.key in own and trace(entry.value) != first
            ):
                names.add(entry.path)

    _listeners.append(note)
    try:
        yield names
    finally:
        _listeners.remove(note)


def recorded(tree: ModelTree) -> Recorded:
    """What was loaded into a model since this package was imported."""
    found = Recorded()
    for entry in tree.entries:
        record = _records.get(entry.owner, {}).get(entry.key)
        if record is not None:
            found.records[entry.path] = record
    for node in tree.nodes:
        if isinstance(node, Module):
            loads = _loads.get(node.value, ())
            found.loads += [(node.path, load) for load in loads]
    return found


def _note(
    records: Dict[str, Record], key: str, tensor: Tensor, value: Tensor
) -> Record:
    times = records[key].times + 1 if key in records else 1
    # What was assigned lies where it came from.
    source = None if _is_same(value, tensor) else place_of(value)
    records[key] = Record(trace(tensor), source, times)
    return records[key]


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
        if not prefix:
            _current.load = current = Load(
                {
                    name: list(value.shape)
                    for name, value in state_dict.items()
                    if isinstance(value, Tensor) and not is_lazy(value)
                }
            )
            loads = _loads.setdefault(unwrap(self), [])
            loads[:] = [*loads[1 - _MOST_LOADS :], current]
        before = _tensors(self)
        original(self, state_dict, prefix, *args, **kwargs)
        loaded = {
            key: tensor
            for key, tensor in _tensors(self).items()
            if _fits(tensor, state_dict.get(prefix + key))
        }
        # Nothing was loaded where a module's own state dict comes back, or the
        # counter that batch norm fills in where a checkpoint lacks it.
        own = {
            key
            for key in loaded
            if _is_same(state_dict[prefix + key], before.get(key))
        }
        for listener in _listeners if loaded else ():
            listener(self, loaded.keys() - own, own)
        if len(loaded) == len(own):
            return
        records = _records.setdefault(self, {})
        load = getattr(_current, 'load', None)
        for key in loaded.keys() - own:
            name = prefix + key
            record = _note(records, key, loaded[key], state_dict[name])
            if load is not None:
                load.records[name] = record

    setattr(_load_from_state_dict, _MARK, True)
    return _load_from_state_dict


def _tensors(module: nn.Module) -> Dict[str, Any]:
    # What a ScriptModule has in their place are no dicts.
    kinds = (module._parameters, module._buffers)
    return {key: value for kind in kinds for key, value in kind.items()}


def _fits(tensor: Any, value: Any) -> bool:
    are_tensors = isinstance(tensor, Tensor) and isinstance(value, Tensor)
    return are_tensors and not (is_lazy(tensor) or differ(tensor, value))


def _is_same(value: Tensor, tensor: Optional[Tensor]) -> bool:
    return tensor is not None and memory_of(value) == memory_of(tensor)


if not hasattr(nn.Module._load_from_state_dict, _MARK):
    nn.Module._load_from_state_dict = _recording(
        nn.Module._load_from_state_dict
    )
