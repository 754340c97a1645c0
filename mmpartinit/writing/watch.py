"""Which tensors an initializer writes, however it goes about it."""

from bisect import bisect_left, bisect_right, insort
from functools import lru_cache
from typing import Any, Callable, Dict, Iterable, List, Set, Tuple

import torch.nn as nn
from torch import Tensor

# The only way to see writes through `.data` and views, which leave version
# counters alone. Not public API, but stable since torch 1.13.
from torch.utils._python_dispatch import TorchDispatchMode

from ..model.tensors import has_memory, same_values, sample

Span = Tuple[int, int, int]


class WriteWatch(TorchDispatchMode):
    """Sees which of a model's tensors are written.

    Every in-place operator counts, on the tensor, on ``.data`` or on a view,
    even where the values stay the same, and so does binding ``.data`` to
    other memory. Memory written behind torch's back (NumPy) counts where one
    of at least 1,024 evenly spaced elements (of all in a small tensor)
    differs afterwards.

    Args:
        tensors (Iterable[Tensor]): Parameters and buffers of any shape and
            dtype. Those without memory of their own kind (lazy, meta, sparse
            and empty ones) are not watched.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        unique = {id(t): t for t in tensors if has_memory(t)}
        self._span_of: Dict[int, Span] = {
            key: _span(tensor, key) for key, tensor in unique.items()
        }
        self._spans: List[Span] = sorted(self._span_of.values())
        self._written: Set[int] = set()

    def run(
        self,
        action: Callable[[nn.Module], None],
        module: nn.Module,
        sampled: Iterable[Tensor],
    ) -> Set[int]:
        """Call an initializer on a module, and give ``id()`` of each tensor of
        the model that it writes; of the sampled ones, also what goes around
        torch.
        """
        sampled = [tensor for tensor in sampled if has_memory(tensor)]
        before = [sample(tensor).clone() for tensor in sampled]
        self._written = set()
        with self:
            action(module)
        for tensor, values in zip(sampled, before):
            if self._follow(tensor) or not same_values(sample(tensor), values):
                self._written.add(id(tensor))
        return self._written

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        for position, name in _written_arguments(func):
            if position < len(args):
                value = args[position]
            else:
                value = kwargs.get(name)
            values = value if isinstance(value, (list, tuple)) else [value]
            for tensor in values:
                if isinstance(tensor, Tensor) and has_memory(tensor):
                    self._note(tensor)
        return func(*args, **kwargs)

    def _note(self, tensor: Tensor) -> None:
        start, end, _ = _span(tensor, 0)
        index = max(bisect_right(self._spans, (start, end, 0)) - 1, 0)
        while index < len(self._spans) and self._spans[index][0] < end:
            if self._spans[index][1] > start:
                self._written.add(self._spans[index][2])
            index += 1

    def follow(self, tensors: Iterable[Tensor]) -> None:
        """Watch the memory that tensors have now, which is no write."""
        for tensor in tensors:
            if id(tensor) in self._span_of:
                self._follow(tensor)

    def _follow(self, tensor: Tensor) -> bool:
        """Whether a tensor has other memory now; watch that instead."""
        old, new = self._span_of[id(tensor)], _span(tensor, id(tensor))
        if old == new:
            return False
        del self._spans[bisect_left(self._spans, old)]
        insort(self._spans, new)
        self._span_of[id(tensor)] = new
        return True


@lru_cache(maxsize=None)
def _written_arguments(func: Any) -> List[Tuple[int, str]]:
    """Positions and names of the arguments that an operator writes to."""
    return [
        (position, argument.name)
        for position, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def _span(tensor: Tensor, key: int) -> Span:
    """First and last address, in bytes, that a tensor's elements lie at."""
    start = tensor.data_ptr()
    if tensor.is_contiguous():
        return start, start + tensor.numel() * tensor.element_size(), key
    last = sum(
        (size - 1) * stride
        for size, stride in zip(tensor.shape, tensor.stride())
    )
    return start, start + (last + 1) * tensor.element_size(), key
