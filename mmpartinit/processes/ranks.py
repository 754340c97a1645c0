"""The same error, the same plan and the same values on all ranks.

On one process, every function here does nothing. On several, each is called
by all of them.
"""

import hashlib
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

import torch
from mmengine.dist import (
    all_gather_object,
    broadcast,
    broadcast_object_list,
    get_world_size,
)
from torch import Tensor

from ..errors import Finding, RuleError

# Large enough that the latency of a message does not count.
_MESSAGE_BYTES = 2**25
_COLUMNS = 1024


def share(value: Any) -> Any:
    """Rank 0's value, on all ranks."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


def together(error: Optional[Exception], value: Any = None) -> List[Any]:
    """Exchange values that can be pickled, unless one of the ranks has
    failed: one for each rank.

    Raises:
        Exception: The error of this rank, if it has one.
        RuleError: If only other ranks have one; names the first of them.
    """
    told = all_gather_object((_findings(error), value))
    if error is not None:
        raise error
    for rank, (findings, _) in enumerate(told):
        if findings:
            raise RuleError(findings).about(where=f'on rank {rank}')
    return [value for _, value in told]


def _findings(error: Optional[Exception]) -> List[Finding]:
    if error is None or isinstance(error, RuleError):
        return error.findings if error else []
    return RuleError.of('failed', str(error) or repr(error)).findings


@contextmanager
def on_all_ranks() -> Iterator[None]:
    """What fails in this block on one rank, fails on all."""
    error = None
    try:
        yield
    except Exception as caught:
        error = caught
    together(error)


def check_alike(describe: Callable[[], Any]) -> None:
    """See to it that ``repr`` of what ``describe`` gives is the same on all
    ranks.

    Raises:
        RuleError: On all ranks, if one has another value than rank 0.
    """
    if get_world_size() == 1:
        return
    digest = hashlib.sha256(repr(describe()).encode()).hexdigest()
    digests = together(None, digest)
    for rank, other in enumerate(digests):
        if other != digests[0]:
            raise RuleError.of(
                'ranks-unlike',
                f'rank {rank} has another model than rank 0, other rules '
                'or other loaded tensors; they must be the same on all',
            )


def in_line(
    error: Optional[Exception],
    wrote: List[List[Set[str]]],
    tensors: Dict[str, Tensor],
) -> Tuple[List[List[Set[str]]], List[str]]:
    """Give all ranks rank 0's values of what any of them has written.

    Ranks tell each other a digest of each such tensor, 16 bytes. Only those
    whose digests differ are sent, in messages of up to 32 MiB or, where a
    tensor is larger than that, of its size.

    Args:
        error (Exception, optional): What went wrong on this rank.
        wrote (list[list[set[str]]]): Names of what each initializer of each
            match wrote on this rank.
        tensors (dict[str, Tensor]): The tensors that may be written, by name,
            the same ones on each rank; of any shape and dtype.

    Returns:
        tuple[list[list[set[str]]], list[str]]: What was written on any rank,
        and the names of the tensors whose values differed.

    Raises:
        Exception: As of :func:`together`.
    """
    digests = {}
    if get_world_size() > 1 and error is None:
        own = {name for sets in wrote for names in sets for name in names}
        digests = {n: digest(t) for n, t in tensors.items() if n in own}
    told = together(error, (wrote, digests))
    union = [
        [set().union(*names) for names in zip(*sets)]
        for sets in zip(*(theirs for theirs, _ in told))
    ]
    written = {name for _, digests in told for name in digests}
    differed = [
        name
        for name in tensors
        if name in written
        and len({digests.get(name) for _, digests in told}) > 1
    ]
    _send([tensors[name] for name in differed])
    return union, differed


def digest(tensor: Tensor) -> bytes:
    """What tells a tensor's values from others, bit for bit.

    A cryptographic hash takes longer than sending the values. It is given the
    sums of the bits over the rows and the columns of a matrix of them.
    """
    flat = as_bytes(tensor)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    whole = flat.numel() // (8 * _COLUMNS) * (8 * _COLUMNS)
    matrix = flat[:whole].view(torch.int64).view(-1, _COLUMNS)
    digest = hashlib.blake2b(digest_size=16)
    # Never NumPy on the memory of a parameter: FSDP could not free it then.
    for part in (matrix.sum(0), matrix.sum(1), flat[whole:].clone()):
        digest.update(part.cpu().numpy())
    return digest.digest()


def _send(tensors: List[Tensor]) -> None:
    for bucket in buckets(tensors, _MESSAGE_BYTES):
        own = [as_bytes(tensor) for tensor in bucket]
        message = torch.cat(own)
        broadcast(message)
        parts = message.split([part.numel() for part in own])
        for tensor, part in zip(bucket, parts):
            # A copy, since a slice need not be aligned to the dtype.
            right = part.clone().view(tensor.dtype).reshape(tensor.shape)
            tensor.detach().copy_(right)


def buckets(tensors: List[Tensor], most: int) -> Iterator[List[Tensor]]:
    """Tensors in turn, of one device and of so many bytes at most together,
    or one that is larger.
    """
    bucket: List[Tensor] = []
    size = 0
    for tensor in tensors:
        more = tensor.numel() * tensor.element_size()
        if bucket and (
            size + more > most or tensor.device != bucket[0].device
        ):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += more
    if bucket:
        yield bucket


def as_bytes(tensor: Tensor) -> Tensor:
    """A tensor as uint8 of shape (bytes,), a view where it is contiguous."""
    whole = tensor.detach().contiguous()
    # The stride of a single element may be any.
    return whole.as_strided([whole.numel()], [1]).view(torch.uint8)
