"""Several processes: the same error and the same values on all of them.

On one process, every function here does nothing. On several, each is called
by all of them.
"""

from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Sequence

import torch
from mmengine.dist import (
    all_gather_object,
    broadcast,
    broadcast_object_list,
    get_rank,
    get_world_size,
)
from torch import Tensor

from .rules import RuleError

# Large enough that a message's latency does not count.
_BUCKET_BYTES = 2**25


def share(value: Any) -> Any:
    """Rank 0's value, on all ranks."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


def together(error: Optional[Exception], value: Any = None) -> List[Any]:
    """Exchange values, unless one of the ranks has failed.

    Args:
        error (Exception, optional): What went wrong on this rank.
        value (Any): What to tell the others; can be pickled.

    Returns:
        list: The value of each rank.

    Raises:
        Exception: The error of this rank, if it has one.
        RuleError: If only other ranks have one; names the first of them.
    """
    if get_world_size() == 1:
        told = [(None, value)]
    else:
        told = all_gather_object((error and str(error), value))
    if error is not None:
        raise error
    for rank, (message, _) in enumerate(told):
        if message is not None:
            raise RuleError(f'on rank {rank}: {message}')
    return [value for _, value in told]


@contextmanager
def on_all_ranks() -> Iterator[None]:
    """What fails in this block on one rank, fails on all."""
    error = None
    try:
        yield
    except Exception as caught:
        error = caught
    together(error)


def in_line(tensors: Sequence[Tensor]) -> List[int]:
    """Give all ranks the values of rank 0, bit for bit.

    Sends the bytes of these tensors once, in messages of 32 MiB or, where a
    tensor is larger than that, of its size.

    Args:
        tensors (Sequence[Tensor]): The same ones on each rank; of any shape
            and dtype.

    Returns:
        list[int]: Positions of those whose values differed on any rank.
    """
    if get_world_size() == 1 or not tensors:
        return []
    differed = []
    for bucket in _buckets(tensors):
        own = [_bytes(tensors[i]) for i in bucket]
        sent = own[0] if len(own) == 1 else torch.cat(own)
        if get_rank() != 0:
            sent = torch.empty_like(sent)
        broadcast(sent)
        if get_rank() != 0:
            parts = sent.split([part.numel() for part in own])
            for i, mine, right in zip(bucket, own, parts):
                if not torch.equal(mine, right):
                    differed.append(i)
                    _set_bytes(tensors[i], right)
    return sorted(set().union(*all_gather_object(differed)))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[List[int]]:
    """Positions of tensors on one device that go in one message."""
    bucket: List[int] = []
    size = 0
    for i, tensor in enumerate(tensors):
        more = tensor.numel() * tensor.element_size()
        if bucket and (
            size + more > _BUCKET_BYTES
            or tensor.device != tensors[bucket[0]].device
        ):
            yield bucket
            bucket, size = [], 0
        bucket.append(i)
        size += more
    if bucket:
        yield bucket


def _bytes(tensor: Tensor) -> Tensor:
    # A view where the tensor is contiguous.
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _set_bytes(tensor: Tensor, values: Tensor) -> None:
    # A copy, since a slice need not be aligned to the dtype.
    right = values.clone().view(tensor.dtype).reshape(tensor.shape)
    tensor.detach().copy_(right)
