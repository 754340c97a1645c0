"""Which tensors an operator of torch's writes to."""

from functools import lru_cache
from typing import Any, Dict, Iterable, List, Set, Tuple

from torch import Tensor

# The only way to see writes through `.data` and views, which leave version
# counters alone. Not public API, but stable since torch 1.13.
from torch.utils._python_dispatch import TorchDispatchMode

from ..model.tensors import has_memory, span, storage_of

# Storages, and in each the first and last address of tensors with a name.
Memory = Dict[int, List[Tuple[int, int, str]]]


class WriteWatch(TorchDispatchMode):
    """Sees, while it is entered, which named memory is written: every in-place
    operator counts, on a tensor, on ``.data`` or on a view, even where the
    values stay the same. What would write outside is not let through.

    Args:
        inside (dict): What to watch, as :func:`memory_map` gives it.
        outside (dict): What must not be written.

    Attributes:
        written (set[str]): Names of what was written inside.
        outside (set[str]): And of what would have been outside.
    """

    def __init__(self, inside: Memory, outside: Memory) -> None:
        super().__init__()
        self.written: Set[str] = set()
        self.outside: Set[str] = set()
        self._watched = ((inside, self.written), (outside, self.outside))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        for position, name in _written_arguments(func):
            is_given = position < len(args)
            value = args[position] if is_given else kwargs.get(name)
            values = value if isinstance(value, (list, tuple)) else [value]
            for tensor in values:
                if isinstance(tensor, Tensor) and has_memory(tensor):
                    self._note(tensor)
        if self.outside:
            raise RuntimeError('a write outside of what a rule names')
        return func(*args, **kwargs)

    def _note(self, tensor: Tensor) -> None:
        storage = storage_of(tensor)
        for memory, written in self._watched:
            if storage in memory:
                start, end = span(tensor)
                written.update(
                    name
                    for first, last, name in memory[storage]
                    if first < end and start < last
                )


def memory_map(tensors: Iterable[Tuple[str, Tensor]]) -> Memory:
    """Where tensors lie, by storage."""
    memory: Memory = {}
    for name, tensor in tensors:
        if has_memory(tensor):
            place = (*span(tensor), name)
            memory.setdefault(storage_of(tensor), []).append(place)
    return memory


@lru_cache(maxsize=None)
def _written_arguments(func: Any) -> List[Tuple[int, str]]:
    """Positions and names of the arguments that an operator writes to."""
    return [
        (position, argument.name)
        for position, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
