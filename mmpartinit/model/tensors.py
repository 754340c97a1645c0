"""What is asked of single tensors: memory, a sample, mean and deviation."""

import math
from itertools import groupby
from typing import List, Optional, Tuple

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

_SAMPLE = 1024
_PLAIN = (Tensor, nn.Parameter)
# Elements that single precision adds up well.
_CHUNK = 2**22


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor's elements lie at addresses of their own."""
    return (
        # Lazy ones have no size to ask for, and DTensors have only a part.
        (type(tensor) in _PLAIN or not _is_special(tensor))
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and tensor.numel() > 0
    )


def _is_special(tensor: Tensor) -> bool:
    return is_lazy(tensor) or hasattr(tensor, 'full_tensor')


def sample(tensor: Tensor) -> Tensor:
    """Evenly spaced elements, at least 1,024 or all, as a view where the
    tensor is contiguous.
    """
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, tensor.numel() // _SAMPLE)]


def same_values(a: Tensor, b: Tensor) -> bool:
    """Whether values are the same, NaN being the same as NaN."""
    same_form = a.shape == b.shape and a.dtype == b.dtype
    return same_form and bool(((a == b) | ((a != a) & (b != b))).all())


def statistics(tensor: Tensor) -> Tuple[List[Optional[float]], bool]:
    """Mean and standard deviation (of the population) of a tensor of any
    shape and dtype, and whether all its values are finite.

    None where there are none to give. Of complex numbers, the absolute values
    count.
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


def statistics_of_samples(
    samples: List[Tensor],
) -> List[Tuple[Optional[float], Optional[float]]]:
    """Mean and standard deviation of each of many small tensors, real or
    complex, in one go; None for NaN and infinity.
    """
    found: List[Tuple[Optional[float], Optional[float]]] = []
    for _, group in groupby(samples, lambda values: values.device):
        reals = [v.abs() if v.is_complex() else v for v in group]
        flat = torch.cat(reals).double().cpu().numpy()
        counts = np.array([real.numel() for real in reals])
        starts = np.cumsum(counts) - counts
        with np.errstate(invalid='ignore', over='ignore'):
            means = np.add.reduceat(flat, starts) / counts
            flat -= np.repeat(means, counts)
            flat *= flat
            stds = np.sqrt(np.add.reduceat(flat, starts) / counts)
        found += [
            tuple(x if math.isfinite(x) else None for x in pair)
            for pair in zip(means.tolist(), stds.tolist())
        ]
    return found
