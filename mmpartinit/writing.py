"""The only code that writes to a model.

Protection does not depend on how an initializer writes. Loaded tensors are
copied aside, the initializer does what it likes, the copies go back.
"""

import math
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple, Union

import torch
import torch.nn as nn
from torch import Tensor

from .matching import Match
from .paths import Slot
from .rules import InitItem, Rule, RuleError
from .seeding import (
    cuda_devices,
    module_seed,
    random_state_kept,
    seed_everything,
)
from .watch import WriteWatch


def write_matches(
    matches: Sequence[Match], slots: Sequence[Slot], seed: int
) -> Dict[int, List[int]]:
    """Carry out a plan: write every match that has something new.

    The global random state is left as it was, gradients are off.

    Args:
        matches (Sequence[Match]): What to write, in order.
        slots (Sequence[Slot]): The model's whole state dict.
        seed (int): Seed of the run.

    Returns:
        dict[int, list[int]]: ``id()`` of each tensor that was written, and
        the indices of the rules that wrote it, in order.

    Raises:
        RuleError: If an initializer fails, wrote nothing, replaced what it
            should write, or wrote something else, and if parameters are not
            finite afterwards.
    """
    watch = WriteWatch(slot.tensor for slot in slots)
    devices = cuda_devices(slot.tensor for slot in slots)
    # Batch norm fills these in itself where a checkpoint lacks them, so that
    # writing them alone is no effect.
    counters = {id(s.tensor) for s in slots if s.key == 'num_batches_tracked'}
    by_rule: Dict[Rule, List[Match]] = {}
    for match in matches:
        if match.new:
            by_rule.setdefault(match.rule, []).append(match)
    written: Dict[int, List[int]] = {}
    problems: List[str] = []
    with random_state_kept(devices), torch.no_grad():
        for rule, members in by_rule.items():
            actions = _actions(members[0])
            touched: List[Set[int]] = [set() for _ in actions]
            for match in members:
                number = module_seed(seed, match.path, match.draw)
                seed_everything(number, devices)
                found = _write_match(match, watch, slots)
                for item_touched, tensors in zip(touched, found):
                    item_touched |= tensors
            problems += _without_effect(
                members, [wrote - counters for wrote in touched]
            )
            new = {id(s.tensor) for match in members for s in match.new}
            for tensor in new.intersection(set().union(*touched)):
                written.setdefault(tensor, []).append(rule.index)
    problems += _not_finite(matches, written)
    if problems:
        raise RuleError.of(problems)
    return written


def _write_match(
    match: Match, watch: WriteWatch, slots: Sequence[Slot]
) -> List[Set[int]]:
    """Write one match, and see to it that nothing else was written."""
    where = f'{match.rule} at {match.path or "the model"}'
    try:
        touched = _write(
            match.target,
            _actions(match),
            match.new,
            match.kept,
            watch,
        )
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
                f'{where}: its initializer also wrote {", ".join(names[:5])}, '
                'outside of what the path names; name that by a path as well'
            )
    return touched


class _Copy:
    """Writes the values of other tensors; does not make them the same."""

    is_mmengines = True

    def __init__(self, match: Match) -> None:
        self._match = match

    def __call__(self, module: nn.Module) -> None:
        copies = self._match.copies
        for slot in self._match.new:
            if slot.name in copies:
                slot.tensor.data.copy_(copies[slot.name].tensor.data)


def _actions(match: Match) -> Sequence[Union[InitItem, _Copy]]:
    """What is called, one after the other, to write a match."""
    return match.rule.init_cfg or (_Copy(match),)


def _without_effect(
    matches: List[Match], touched: List[Set[int]]
) -> List[str]:
    """Initializers that wrote nothing, not even something that was kept."""
    given = sum(len(match.new) for match in matches)
    return [
        f'{matches[0].rule}: {item} initialises nothing: it wrote none of the '
        f'{given} new tensors that it was given'
        for item, wrote in zip(_actions(matches[0]), touched)
        if not wrote
    ]


def _not_finite(
    matches: Sequence[Match], written: Dict[int, List[int]]
) -> List[str]:
    bad: Dict[Rule, Dict[str, None]] = {}
    for match in matches:
        for slot in match.new:
            if (
                written.get(id(slot.tensor), [None])[-1] == match.rule.index
                # Not buffers: masks hold infinities on purpose.
                and isinstance(slot.tensor, nn.Parameter)
                # The sum is not finite if any element is not, at a fraction
                # of the cost of looking at each.
                and not math.isfinite(slot.tensor.sum().abs().item())
                and not torch.isfinite(slot.tensor).all()
            ):
                bad.setdefault(match.rule, {})[slot.name] = None
    return [
        f'{rule} wrote values that are not finite: '
        f'{", ".join(list(names)[:5])}{" ..." if len(names) > 5 else ""}'
        for rule, names in bad.items()
    ]


def _write(
    target: nn.Module,
    items: Sequence[Union[InitItem, '_Copy']],
    new: Sequence[Slot],
    kept: Sequence[Slot],
    watch: WriteWatch,
) -> List[Set[int]]:
    """Let initializers write to a module, and to nothing but its new tensors.

    Gives, for each initializer, ``id()`` of the tensors that it wrote, the
    kept ones included.
    """
    structure = _Structure(target)
    copies = _Copies(slot.tensor for slot in kept)
    forms = [_form(slot.tensor) for slot in new]
    tensors = [slot.tensor for slot in new]
    written = []
    try:
        for item in items:
            # MMEngine's own initializers never write behind torch's back.
            sampled = () if item.is_mmengines else tensors
            written.append(watch.run(item, target, sampled))
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
        for slot, form in zip(new, forms)
        if form != _form(slot.tensor)
    ]
    if changed:
        raise RuleError(f'it changed the form of {"; ".join(changed)}')
    return written


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
        """Put back what was replaced or taken away.

        Returns:
            list[str]: Names of that, seen from the module.
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
