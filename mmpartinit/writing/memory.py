"""One match written, and nothing but its new tensors.

Protection does not depend on how an initializer writes. Loaded tensors are
copied aside, the initializer does what it likes, the copies go back.
"""

from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

import torch.nn as nn
from torch import Tensor

from ..errors import RuleError, some
from ..model.tree import Slot
from ..rules.matching import Match
from .watch import WriteWatch


def write_protected(
    match: Match, watch: WriteWatch, slots: Sequence[Slot]
) -> List[Set[int]]:
    """Let the initializers of a rule write to one of its matches.

    Gives, for each initializer, ``id()`` of the tensors that it wrote, in the
    whole model and those included that were put back.

    Raises:
        RuleError: If an initializer fails, replaces what it should write, or
            writes to something outside of the match.
    """
    where = f'{match.rule} at {match.path or "the model"}'
    try:
        touched = _write(match, watch)
    except Exception as error:
        kind = '' if isinstance(error, RuleError) else type(error).__name__
        text = f'{kind}: {error}' if kind else str(error)
        raise RuleError(f'{where}: {text}') from error
    under = {id(slot.tensor) for slot in [*match.new, *match.kept]}
    outside = set().union(*touched) - under
    if outside:
        memory = {s.tensor.data_ptr() for s in [*match.new, *match.kept]}
        names = [
            slot.name
            for slot in slots
            if id(slot.tensor) in outside
            and slot.tensor.data_ptr() not in memory
        ]
        if names:
            raise RuleError(
                f'{where}: its initializer also wrote {some(names, 5)}, '
                'outside of what the path names; name that by a path as well'
            )
    return touched


def _write(match: Match, watch: WriteWatch) -> List[Set[int]]:
    target = match.target
    structure = _Structure(target)
    copies = _Copies(slot.tensor for slot in match.kept)
    forms = [_form(slot.tensor) for slot in match.new]
    tensors = [slot.tensor for slot in match.new]
    written = []
    try:
        for item in match.rule.init_cfg:
            # MMEngine's own initializers never write behind torch's back.
            sampled = () if item.is_known else tensors
            written.append(watch.run(item, target, sampled))
        if match.rule.copy_from is not None:
            written.append(watch.run(lambda _: _copy(match), target, ()))
    finally:
        replaced = structure.restore()
        copies.restore()
    if replaced:
        raise RuleError(
            f'it replaced {", ".join(replaced)} by another, which the '
            'optimizer does not know; write in place, as nn.init does'
        )
    changed = [
        f'{slot.name} from {form} to {_form(slot.tensor)}'
        for slot, form in zip(match.new, forms)
        if form != _form(slot.tensor)
    ]
    if changed:
        raise RuleError(f'it changed the form of {"; ".join(changed)}')
    return written


def _copy(match: Match) -> None:
    """Write the values of other tensors; does not make them the same."""
    copies = match.copies
    for slot in match.new:
        if slot.name in copies:
            slot.tensor.data.copy_(copies[slot.name].tensor.data)


class _Structure:
    """Which modules, parameters and buffers hang where under a module."""

    def __init__(self, module: nn.Module) -> None:
        self._entries: List[Tuple[str, Dict[str, Any], Dict[str, Any]]] = [
            (name, entries, dict(entries))
            for name, child in module.named_modules()
            for entries in (child._parameters, child._buffers, child._modules)
            if entries
        ]

    def restore(self) -> List[str]:
        """Put back what was replaced or taken away, and give the names of
        that, seen from the module.
        """
        replaced = []
        for name, entries, before in self._entries:
            for key, value in before.items():
                if entries.get(key) is not value:
                    entries[key] = value
                    replaced.append(f'{name}.{key}' if name else key)
        return replaced


class _Copies:
    """Copies of tensors, to put back."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        unique = {id(tensor): tensor for tensor in tensors}.values()
        # The alias keeps the memory that a tensor had, in case that
        # `tensor.data` is bound to another meanwhile.
        self._saved: List[Tuple[Tensor, Tensor, Tensor]] = [
            (tensor, tensor.data, tensor.detach().clone()) for tensor in unique
        ]

    def restore(self) -> None:
        for tensor, alias, copy in self._saved:
            alias.copy_(copy)
            if (
                _form(tensor) != _form(alias)
                or tensor.data_ptr() != alias.data_ptr()
            ):
                tensor.data = alias


def _form(tensor: Tensor) -> Tuple[Any, ...]:
    return tuple(tensor.shape), tensor.dtype, tensor.device
