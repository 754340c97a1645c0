"""Mean and standard deviation of tensors, in little time and memory."""

import math
from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .watch import has_memory

# Elements that single precision adds up well.
_CHUNK = 2**22


def statistics(tensor: Tensor) -> Tuple[List[Optional[float]], bool]:
    """Mean and standard deviation, and whether all values are finite.

    Args:
        tensor (Tensor): Of any shape and dtype; of complex numbers, their
            absolute values count.

    Returns:
        tuple[list[float | None], bool]: Mean and standard deviation (of the
        population), None where there are none to give; whether all values are
        finite.
    """
    if not has_memory(tensor):
        return [None, None], True
    values = tensor.detach().reshape(-1)
    if values.is_complex():
        values = values.abs()
    elif values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    if values.is_cuda or values.numel() <= 2**13:
        std, mean = torch.std_mean(values, unbiased=False)
        numbers = [mean.item(), std.item()]
    else:
        numbers = _around(values, 0.0)
        if abs(numbers[0]) > 8 * numbers[1]:
            # Too far from 0 to tell their spread from there.
            near = values[:: values.numel() // 1024].double().mean().item()
            numbers = _around(values, near)
    if all(map(math.isfinite, numbers)):
        return numbers, True
    if not torch.isfinite(values).all():
        return [None, None], False
    # Squares, or even the sum, are beyond the dtype.
    return [values.double().mean().item(), None], True


def _around(values: Tensor, origin: float) -> List[float]:
    """What ``torch.std_mean`` gives, many times as fast on the CPU: sums of
    the values and of their squares, as seen from a point near their mean.
    """
    count = values.numel()
    total, squares = 0.0, 0.0
    for chunk in values.split(_CHUNK):
        near = chunk - origin if origin else chunk
        total += near.sum().item()
        squares += near.dot(near).item()
    step = total / count
    return [origin + step, math.sqrt(max(squares / count - step * step, 0.0))]
