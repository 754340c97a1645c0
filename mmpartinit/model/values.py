"""What tensors hold: a few of the values to know them by, and what two starts
of a model have in common.
"""

from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from .tensors import has_memory, sample

_FEW = 64
# Between two draws, single elements of large tensors are equal by chance: in
# single precision about one in 10 million, in half precision one in 300.
_SHARE = 1e-3
_SHARE_OF_HALF = 2e-2
# What is equal by design, such as zeros, has one or two values.
_DISTINCT = 3
_DISTINCT_OF_HALF = 5


class Trace(NamedTuple):
    """What a tensor is known by: its shape and, as bytes of float32, at least
    64 evenly spaced values of it, or all. Equal for equal bits.
    """

    shape: Tuple[int, ...]
    values: bytes

    @property
    def is_one_value(self) -> bool:
        """Whether it says little: many tensors hold one value."""
        return self.values == self.values[:4] * (len(self.values) // 4)

    @property
    def first(self) -> float:
        """The first value."""
        return float(np.frombuffer(self.values[:4], 'f4')[0])

    def is_of(self, other: 'Trace') -> bool:
        """Whether both are of the same values, but for what is lost where a
        tensor is converted to half precision and back.
        """
        if self == other or self.shape != other.shape:
            return self == other
        mine, theirs = (np.frombuffer(t.values, 'f4') for t in (self, other))
        # Half a unit in the last of the 8 bits that bfloat16 has, and the
        # smallest number of float16.
        near = np.isclose(mine, theirs, 2**-8, 2**-24, equal_nan=True)
        return bool(near.all())


def trace(tensor: Tensor) -> Optional[Trace]:
    """What to know a tensor by; None where it has no values to read."""
    if not is_readable(tensor):
        return None
    values = sample(tensor, _FEW)
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj()).flatten()
    # Of a copy: FSDP could not free the memory that NumPy has seen.
    values = values.to('cpu', torch.float32, copy=True)
    return Trace(tuple(tensor.shape), values.numpy().tobytes())


def is_readable(tensor: Tensor) -> bool:
    """Whether a tensor's values can be read one by one: subclasses may be
    pieces of a tensor, or compute what they hold.
    """
    return has_memory(tensor) and type(tensor.data) is Tensor


def is_one_value(tensor: Tensor) -> bool:
    """Whether all elements of a readable tensor are the same."""
    flat = tensor.detach().reshape(-1)
    return bool((flat == flat[0]).all())


def one_value(tensor: Tensor) -> Optional[float]:
    """The value that all elements of a tensor are, as a float32; None where
    they are not the same, or cannot be read.
    """
    known = trace(tensor)
    return known.first if known and is_one_value(tensor) else None


def drawn_elements(tensor: Tensor, other: Tensor) -> int:
    """How many elements of a tensor were drawn, seen from a tensor of the same
    shape that a start with another seed has in its place.

    Returns:
        int: 0 where both are the same; the number of elements where they are
        not; in between where whole slices along the first two dimensions, or
        more elements than chance would have, are the same.
    """
    ours = tensor.detach()
    theirs = other.detach().to(ours.device, ours.dtype)
    if ours.is_floating_point() and ours.element_size() == 1:
        # Numbers of eight bits can be told apart, and little else.
        ours, theirs = ours.float(), theirs.float()
    count = ours.numel()
    if torch.equal(ours, theirs):
        return 0
    if not (ours.is_floating_point() or ours.is_complex()):
        return count
    # Formulas come out otherwise on another device, by a rounding.
    same = (
        ours == theirs
        if tensor.device == other.device
        else torch.isclose(ours, theirs, 1e-5, 0.0)
    )
    if tensor.device != other.device and bool(same.all()):
        return 0
    share, least = _SHARE, _DISTINCT
    if tensor.element_size() <= 2:
        share, least = _SHARE_OF_HALF, _DISTINCT_OF_HALF
    alike = int(torch.count_nonzero(same))
    if alike < least:
        return count
    for part in (same, *_slices(same)):
        values = torch.view_as_real(ours) if ours.is_complex() else ours
        distinct = values[part].unique().numel()
        if distinct >= max(least, share * count if part is same else 0):
            return count - alike
    return count


def _slices(same: Tensor) -> List[Tensor]:
    """Where whole slices along a dimension are the same."""
    found = []
    for dim in range(min(same.dim(), 2) if same.dim() > 1 else 0):
        rows = same.transpose(0, dim).flatten(1)
        if rows.shape[1] > 1:
            whole = rows.all(1)
            shape = [1] * same.dim()
            shape[dim] = -1
            found.append(whole.view(shape).expand_as(same))
    return found
