"""Memory of its own for what an initializer can reach.

Protection does not depend on how an initializer writes. While it runs, no
tensor under its match is in the model's own memory, nor is what its modules
hold as views of them: loaded tensors are out of its reach, and after a failure
the match is as it was. A view that it has from elsewhere leads to the model's
own memory; ``watch.py`` sees what torch writes there.
"""

from typing import Any, Collection, Dict, List, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor

from ..errors import RuleError
from ..model.tensors import (
    has_memory,
    holds_values,
    regions,
    same_bits,
    span,
    storage_of,
)
from ..model.tree import Entry


class PrivateMemory:
    """Gives tensors other memory, and back the memory that they had.

    Tensors that share memory go on sharing it. What has no plain memory of
    its own but holds values (it is sparse or quantized, or wraps other
    tensors) is copied aside instead, and never written.

    Args:
        new (Sequence[Entry]): What may be written.
        kept (Sequence[Entry]): What must come out as it was.
        others (Sequence[Tensor]): Tensors that may share memory with these.
        scratch (Scratch, optional): Memory for it, where the initializers
            read nothing of what there is; else the tensors get copies.
    """

    def __init__(
        self,
        new: Sequence[Entry],
        kept: Sequence[Entry],
        others: Sequence[Tensor],
        scratch: Optional['Scratch'],
    ) -> None:
        self.new, self.kept = new, kept
        tensors = {id(e.value): e.value for e in [*new, *kept]}
        plain = [t for t in tensors.values() if has_memory(t)]
        storages = {storage_of(t) for t in plain} if others else ()
        plain += [
            tensor
            for tensor in {id(t): t for t in others}.values()
            if id(tensor) not in tensors
            and has_memory(tensor)
            and storage_of(tensor) in storages
        ]
        self._tensors: List[Tensor] = []
        self._given: Dict[int, Tensor] = {}
        alone: List[int] = []
        for numbers in regions(plain):
            region = [plain[number] for number in numbers]
            if not any(id(tensor) in tensors for tensor in region):
                continue
            self._tensors += region
            if len(region) == 1 and 0 not in region[0].stride():
                alone += numbers
            else:
                self._give(region)
        # In the order of their elements, however they lie, so that the same
        # values are drawn.
        single = [plain[number] for number in sorted(alone)]
        if scratch is None:
            order = torch.contiguous_format
            for tensor in single:
                given = tensor.detach().clone(memory_format=order)
                self._given[id(tensor)] = given
        else:
            written = {id(entry.value) for entry in new}
            self._given.update(scratch.like(single, written))
        self._aside = [
            (tensor, tensor.detach().clone())
            for tensor in tensors.values()
            if holds_values(tensor) and not has_memory(tensor)
        ]
        # An alias keeps the memory that a tensor has.
        self._home = {id(t): t.data for t in self._tensors}
        for tensor in self._tensors:
            tensor.data = self._given[id(tensor)]

    def _give(self, region: Sequence[Tensor]) -> None:
        """Memory for tensors that share some, laid out as theirs is."""
        spans = [span(tensor) for tensor in region]
        start = spans[0][0] // 64 * 64  # aligned as it is now
        size = max(end for _, end in spans) - start
        memory = torch.empty(size, dtype=torch.uint8, device=region[0].device)
        for tensor, (first, end) in zip(region, spans):
            given = memory[first - start : end - start].view(tensor.dtype)
            given = given.as_strided(tensor.shape, tensor.stride())
            # With what lies between, for elements may lie on each other.
            _flat(given).copy_(_flat(tensor.detach()))
            self._given[id(tensor)] = given

    def values(self) -> Dict[int, Tensor]:
        """Copies of what the tensors hold now, by their ``id()``."""
        return {id(t): t.detach().clone() for t in self._tensors}

    def changed(self, seen: Set[str], before: Dict[int, Tensor]) -> Set[str]:
        """Names of what else holds other values than before (than at first,
        where nothing is given), or lies elsewhere, as after a write through
        NumPy: new tensors, or if there are none and none were seen, kept ones.
        """
        before = before or self._home
        for entries in (self.new, self.kept):
            found = {
                entry.path
                for entry in entries
                if entry.path not in seen
                and id(entry.value) in before
                and self._differs(entry.value, before[id(entry.value)])
            }
            if found or seen:
                return found
        return set()

    def _differs(self, tensor: Tensor, before: Tensor) -> bool:
        return (
            tensor.data_ptr() != self._given[id(tensor)].data_ptr()
            or _form(tensor) != _form(before)
            or not same_bits(tensor, before)
        )

    def take_home(self, names: Set[str]) -> None:
        """Carry over what was written to new tensors of these names."""
        homes = [
            (entry, self._home[id(entry.value)])
            for entry in self.new
            if entry.path in names and id(entry.value) in self._home
        ]
        for entry, home in homes:
            if _form(home) != _form(entry.value):
                raise RuleError.of(
                    'replaced',
                    f'it changed {entry.path} from {_said(home)} to '
                    f'{_said(entry.value)}; write in place, as nn.init does',
                    [entry.path],
                )
        for entry, home in homes:
            value = entry.value.detach()
            if 0 in home.stride() and home.stride() == value.stride():
                home, value = _flat(home), _flat(value)
            home.copy_(value)

    def give_back(self) -> None:
        """Have all tensors lie where they lay."""
        for tensor in self._tensors:
            tensor.data = self._home[id(tensor)]
        for tensor, value in self._aside:
            tensor.detach().copy_(value)


class Scratch:
    """Memory to write to and forget, used by one match after another as long
    as they are alike: to get new memory takes about as long as to write it.
    """

    def __init__(self) -> None:
        self._forms: List[Any] = []
        self._memory: List[Tensor] = []

    def like(
        self, tensors: Sequence[Tensor], apart: Collection[int]
    ) -> Dict[int, Tensor]:
        """Memory in the form of each tensor, by their ``id()``: of its own
        for those whose number is in ``apart``, and the same for all others,
        at which nobody looks.
        """
        forms = [(_form(t), id(t) in apart) for t in tensors]
        if forms != self._forms:
            self._forms, self._memory = forms, []  # not both at a time
            shared = self._shared([t for t in tensors if id(t) not in apart])
            self._memory = [
                torch.empty(shape, dtype=dtype, device=device)
                if is_apart
                else shared[device][: _bytes(tensor)].view(dtype).view(shape)
                for tensor, ((shape, dtype, device), is_apart) in zip(
                    tensors, forms
                )
            ]
        return {id(t): given for t, given in zip(tensors, self._memory)}

    def _shared(self, tensors: Sequence[Tensor]) -> Dict[Any, Tensor]:
        """On each device, as much as the largest of them takes."""
        sizes: Dict[Any, int] = {}
        for tensor in tensors:
            most = sizes.get(tensor.device, 0)
            sizes[tensor.device] = max(most, _bytes(tensor))
        return {
            device: torch.empty(size, dtype=torch.uint8, device=device)
            for device, size in sizes.items()
        }


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _flat(tensor: Tensor) -> Tensor:
    """All elements between a tensor's first and last, in one dimension."""
    start, end = span(tensor)
    return tensor.as_strided([(end - start) // tensor.element_size()], [1])


def _form(tensor: Tensor) -> Tuple[Any, ...]:
    return tuple(tensor.shape), tensor.dtype, tensor.device


def _said(tensor: Tensor) -> str:
    dtype = str(tensor.dtype).replace('torch.', '')
    return f'{dtype} of shape {tuple(tensor.shape)} on {tensor.device}'
