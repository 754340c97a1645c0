"""What is asked of single tensors: memory, a sample, mean and deviation."""

import math
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy

from ..processes.ranks import as_bytes, buckets
from ..processes.units import lies_in_parts

_SAMPLE = 1024
_PLAIN = (Tensor, nn.Parameter)
# Elements that single precision adds up well, and that stay in the cache from
# one reading to the next.
_CHUNK = 2**17
# Elements of which one by one costs more than to put many together, and bytes
# that are put together.
_SMALL = 2**13
_TOGETHER = 2**20


# Memory, alive or gone, and where in it a tensor begins.
Place = Tuple[StorageWeakRef, int]


class Statistics(NamedTuple):
    """Mean and standard deviation (of the population) of a tensor's values;
    None where there are none to give.
    """

    mean: Optional[float]
    std: Optional[float]
    is_finite: bool = True


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor's elements lie at addresses of their own, where they
    can be written one by one.
    """
    # Lazy ones have no size to ask for; of others, a tensor is a part, or
    # they are held by tensors that it wraps.
    is_special = type(tensor) not in _PLAIN and (
        is_lazy(tensor)
        or lies_in_parts(tensor)
        or hasattr(type(tensor), '__tensor_flatten__')
    )
    return (
        not is_special
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        and not tensor.is_meta
        and tensor.numel() > 0
    )


def holds_values(tensor: Tensor) -> bool:
    """Whether a tensor has elements with values, wherever they lie."""
    return not is_lazy(tensor) and not tensor.is_meta and tensor.numel() > 0


def memory_of(tensor: Tensor) -> Tuple[int, int]:
    """Where tensors begin, and how many elements they have: the same for those
    that hold the same ones.
    """
    try:
        return tensor.data_ptr() or id(tensor), tensor.numel()
    except (RuntimeError, ValueError, NotImplementedError):
        return id(tensor), 0  # sparse, lazy, and what wraps other tensors


def place_of(tensor: Tensor) -> Optional[Place]:
    """Where a tensor begins, told apart from what lies at the same address
    when it is gone; its memory is not held on to.
    """
    try:
        # torch 1.13 has no other name for it.
        storage = getattr(tensor, 'untyped_storage', tensor.storage)()
        return StorageWeakRef(storage), tensor.storage_offset()
    except (RuntimeError, ValueError, NotImplementedError):
        return None  # as in `memory_of`


def span(tensor: Tensor) -> Tuple[int, int]:
    """First and last address, in bytes, that a tensor's elements lie at."""
    start, size = tensor.data_ptr(), tensor.element_size()
    if tensor.is_contiguous():
        return start, start + tensor.numel() * size
    steps = zip(tensor.shape, tensor.stride())
    last = sum((count - 1) * stride for count, stride in steps)
    return start, start + (last + 1) * size


def regions(tensors: Iterable[Tensor]) -> Iterator[List[int]]:
    """Numbers of tensors with memory, those together whose spans overlap."""
    region: List[int] = []
    end = 0
    spans = [(*span(tensor), i) for i, tensor in enumerate(tensors)]
    for start, stop, number in sorted(spans):
        if region and start >= end:
            yield region
            region = []
        region.append(number)
        end = max(end, stop) if len(region) > 1 else stop
    if region:
        yield region


def overlap(a: Tensor, b: Tensor) -> bool:
    """Whether tensors whose spans overlap have elements in common; columns of
    one matrix have none.
    """
    if a.is_contiguous() and b.is_contiguous():
        return True
    return np.intersect1d(_addresses(a), _addresses(b)).size > 0


def _addresses(tensor: Tensor) -> np.ndarray:
    offsets: Any = np.arange(tensor.element_size())
    for count, stride in zip(tensor.shape, tensor.stride()):
        steps = np.arange(count) * (stride * tensor.element_size())
        offsets = np.add.outer(offsets, steps)
    return tensor.data_ptr() + offsets


def is_inside(tensor: Tensor) -> bool:
    """Whether a tensor begins elsewhere than the memory that it lies in."""
    try:
        return tensor.storage_offset() > 0
    except (RuntimeError, ValueError, NotImplementedError):
        return False  # as in `memory_of`


def storage_of(tensor: Tensor) -> int:
    """Address of the memory that a tensor is a view of."""
    return tensor.data_ptr() - tensor.storage_offset() * tensor.element_size()


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether tensors of one form hold the same, bit for bit: NaN is the same
    as NaN, and 0 is not -0.
    """
    return torch.equal(as_bytes(a), as_bytes(b))


def sample(tensor: Tensor, least: int = _SAMPLE) -> Tensor:
    """Evenly spaced elements, at least 1,024 or so many, or all; a view where
    the tensor is contiguous.
    """
    flat, step = tensor.detach().reshape(-1), tensor.numel() // least
    return flat[::step] if step > 1 else flat


def statistics_of(tensors: Iterable[Tensor]) -> Dict[int, Statistics]:
    """What :func:`statistics` gives of each tensor, by their ``id()``."""
    every = list(tensors)
    small = [t for t in every if _is_small(t)]
    scales = statistics_of_samples([sample(t, _SMALL) for t in small])
    found = {
        id(tensor): Statistics(mean, std)
        for tensor, (mean, std) in zip(small, scales)
        if std is not None
    }
    for tensor in every:
        if id(tensor) not in found:
            found[id(tensor)] = statistics(tensor)
    return found


def _is_small(tensor: Tensor) -> bool:
    return (
        has_memory(tensor)
        and tensor.numel() <= _SMALL
        and tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and not tensor.is_cuda
    )


def statistics(tensor: Tensor) -> Statistics:
    """Mean and standard deviation of a tensor of any shape and dtype, and
    whether all its values are finite. Of complex numbers, the absolute values
    count.
    """
    if not has_memory(tensor):
        return Statistics(None, None)
    values = tensor.detach().reshape(-1)
    if values.is_complex():
        values = values.abs()
    elif values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    if values.is_cuda or values.numel() <= _SMALL:
        deviation, middle = torch.std_mean(values, unbiased=False)
        mean, std = middle.item(), deviation.item()
    else:
        mean, std = _around(values, 0.0)
        if abs(mean) > 8 * std:
            # Too far from 0 to tell their spread from there.
            near = values[:: values.numel() // 1024].double().mean().item()
            mean, std = _around(values, near)
    if math.isfinite(mean) and math.isfinite(std):
        return Statistics(mean, std)
    if not torch.isfinite(values).all():
        return Statistics(None, None, False)
    # Squares, or even the sum, are beyond the dtype.
    return Statistics(values.double().mean().item(), None)


def _around(values: Tensor, origin: float) -> Tuple[float, float]:
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
    return origin + step, math.sqrt(max(squares / count - step * step, 0.0))


def statistics_of_samples(
    samples: List[Tensor],
) -> List[Tuple[Optional[float], Optional[float]]]:
    """Mean and standard deviation of each of many small tensors, real or
    complex, many in one go; None for NaN and infinity.
    """
    found: List[Tuple[Optional[float], Optional[float]]] = []
    for group in buckets(samples, _TOGETHER):
        reals = [v.abs() if v.is_complex() else v for v in group]
        # Numbers of eight bits cannot be put beside others.
        reals = [v if v.element_size() > 1 else v.float() for v in reals]
        flat = torch.cat(reals).double().cpu().numpy()
        counts = np.array([real.numel() for real in reals])
        starts = np.cumsum(counts) - counts
        with np.errstate(invalid='ignore', over='ignore'):
            means = np.add.reduceat(flat, starts) / counts
            flat -= np.repeat(means, counts)
            flat *= flat
            stds = np.sqrt(np.add.reduceat(flat, starts) / counts)
        found += [
            (_finite(mean), _finite(std))
            for mean, std in zip(means.tolist(), stds.tolist())
        ]
    return found


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
