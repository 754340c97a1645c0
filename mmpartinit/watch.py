"""Which tensors an initializer writes, however it goes about it."""

from bisect import bisect_right
from typing import Any, Iterable, Set, Tuple

import torch
from torch import Tensor

# The only way to see writes through `.data` and views, which leave version
# counters alone. Not public API, but stable since torch 1.13.
from torch.utils._python_dispatch import TorchDispatchMode

_SAMPLE = 1024


class WriteWatch(TorchDispatchMode):
    """Notes which of some tensors are written while it is active.

    Every in-place operator counts, on the tensor, on ``.data`` or on a view,
    even where the values stay the same. Memory written behind torch's back
    (NumPy, a rebound ``.data``) counts where one of up to 1,024 evenly spaced
    elements of a tensor differs afterwards.

    Args:
        tensors (Iterable[Tensor]): Tensors of any shape and dtype, not on the
            meta device.

    Attributes:
        written (set[int]): ``id()`` of each tensor that was written.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        tensors = list({id(t): t for t in tensors if t.numel()}.values())
        self.written: Set[int] = set()
        self._samples = [(t, _sample(t).clone()) for t in tensors]
        self._spans = sorted((*_span(t), id(t)) for t in tensors)
        self._starts = [span[0] for span in self._spans]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = (
                args[position]
                if position < len(args)
                else kwargs.get(argument.name)
            )
            for tensor in (
                value if isinstance(value, (list, tuple)) else [value]
            ):
                if isinstance(tensor, Tensor):
                    self._note(tensor)
        return func(*args, **kwargs)

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for tensor, before in self._samples:
            if id(tensor) not in self.written and not torch.equal(
                _sample(tensor), before
            ):
                self.written.add(id(tensor))

    def _note(self, tensor: Tensor) -> None:
        start, end = _span(tensor)
        first = max(bisect_right(self._starts, start) - 1, 0)
        for other_start, other_end, number in self._spans[first:]:
            if other_start >= end:
                break
            if other_end > start:
                self.written.add(number)


def _span(tensor: Tensor) -> Tuple[int, int]:
    """First and last address, in bytes, that a tensor's elements lie at."""
    start = tensor.data_ptr()
    if not tensor.numel():
        return start, start
    last = sum(
        (size - 1) * stride
        for size, stride in zip(tensor.shape, tensor.stride())
    )
    return start, start + (last + 1) * tensor.element_size()


def _sample(tensor: Tensor) -> Tensor:
    """Some elements, as a view where the tensor is contiguous."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, tensor.numel() // _SAMPLE)]
