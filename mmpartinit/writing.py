"""The only code that writes to a model.

Protection does not depend on how an initializer writes. Loaded tensors are
copied aside, the initializer does what it likes, the copies go back.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import torch
import torch.nn as nn
from torch import Tensor

from .masters import write_masters
from .matching import Match
from .moments import statistics
from .parallel import in_line, on_all_ranks
from .rules import InitItem, Rule, RuleError
from .seeding import (
    cuda_devices,
    module_seed,
    random_state_kept,
    seed_everything,
)
from .sharding import Shards
from .tree import Slot
from .watch import WriteWatch


@dataclass
class Outcome:
    """What was written.

    Attributes:
        written (dict[int, list[int]]): ``id()`` of each tensor that was
            written, and the indices of the rules that wrote it, in order.
        statistics (dict[int, list]): Mean and standard deviation of each;
            None where there are none to give.
        differed (dict[int, None]): ``id()`` of those whose values were not
            the same on all ranks.
    """

    written: Dict[int, List[int]] = field(default_factory=dict)
    statistics: Dict[int, List[Optional[float]]] = field(default_factory=dict)
    differed: Dict[int, None] = field(default_factory=dict)


def write_matches(
    matches: Sequence[Match], slots: Sequence[Slot], seed: int, shards: Shards
) -> Outcome:
    """Carry out a plan: write every match that has something new.

    The global random state is left as it was, gradients are off. Every rank
    takes part, and all end with the values of rank 0.

    Args:
        matches (Sequence[Match]): What to write, in order.
        slots (Sequence[Slot]): The model's whole state dict.
        seed (int): Seed of the run.
        shards (Shards): Which of the parameters lie in parts.

    Returns:
        Outcome: What was written.

    Raises:
        RuleError: If an initializer fails, wrote nothing, replaced what it
            should write, or wrote something else, and if parameters are not
            finite afterwards; on this rank or on another one.
    """
    writer = _Writer(slots, seed, shards)
    acting = [match for match in matches if match.new]
    with random_state_kept(writer.devices), torch.no_grad():
        # One group, unless parameters lie in parts.
        for units, members in groupby(acting, writer.units_of):
            writer.write(units, list(members))
    with on_all_ranks():
        problems = writer.problems()
        if problems:
            raise RuleError.of(problems)
    write_masters(
        slot.tensor for slot in slots if id(slot.tensor) in writer.out.written
    )
    return writer.out


class _Writer:
    """Writes matches, group by group."""

    def __init__(
        self, slots: Sequence[Slot], seed: int, shards: Shards
    ) -> None:
        self.out = Outcome()
        self.devices = cuda_devices(slot.tensor for slot in slots)
        if shards and torch.cuda.is_initialized():
            # Parts that lie on the CPU are gathered there.
            self.devices = sorted({*self.devices, torch.cuda.current_device()})
        self._slots, self._seed, self._shards = slots, seed, shards
        self._number = {id(slot.tensor): i for i, slot in enumerate(slots)}
        self._watch = WriteWatch(slot.tensor for slot in slots)
        # What the initializers of each rule wrote, of new tensors and kept.
        self._touched: Dict[Rule, List[Set[int]]] = {}
        self._given: Counter = Counter()
        self._infinite: Dict[int, int] = {}

    def units_of(self, match: Match) -> Tuple[Any, ...]:
        """What has to be gathered to write a match."""
        concerned = [*match.new, *match.kept, *match.sources]
        return self._shards.units_of(slot.tensor for slot in concerned)

    def write(self, units: Sequence[Any], matches: Sequence[Match]) -> None:
        """Write some matches, the same ones on all ranks at a time."""
        with self._shards.gathered(units) as gathered:
            self._watch.follow(gathered)
            error = None
            written: Dict[int, List[int]] = {}
            try:
                for match in matches:
                    self._write_match(match, written)
            except RuleError as caught:
                error = caught
            tensors = [slot.tensor for slot in self._slots]
            written, differed = in_line(error, written, tensors)
            for number in differed:
                self.out.differed[id(tensors[number])] = None
            for number, rules in written.items():
                self._look_at(tensors[number], rules)
        self._watch.follow(gathered)

    def _write_match(
        self, match: Match, written: Dict[int, List[int]]
    ) -> None:
        number = module_seed(self._seed, match.path, match.draw)
        seed_everything(number, self.devices)
        found = _write_match(match, self._watch, self._slots)
        touched = self._touched.setdefault(match.rule, [set() for _ in found])
        for so_far, tensors in zip(touched, found):
            so_far |= tensors
        self._given[match.rule] += len(match.new)
        new = {id(slot.tensor) for slot in match.new}
        for tensor in new.intersection(set().union(*found)):
            rules = written.setdefault(self._number[tensor], [])
            if rules[-1:] != [match.rule.index]:
                rules.append(match.rule.index)

    def _look_at(self, tensor: Tensor, rules: List[int]) -> None:
        before = self.out.written.setdefault(id(tensor), [])
        before += rules[before[-1:] == rules[:1] :]
        self.out.statistics[id(tensor)], finite = statistics(tensor)
        self._infinite.pop(id(tensor), None)
        # Not buffers: masks hold infinities on purpose.
        if not finite and isinstance(tensor, nn.Parameter):
            self._infinite[id(tensor)] = rules[-1]

    def problems(self) -> List[str]:
        """What is wrong with the outcome, a sentence each."""
        # Batch norm fills these in itself where a checkpoint lacks them, so
        # that writing them alone is no effect.
        counters = {
            id(slot.tensor)
            for slot in self._slots
            if slot.key == 'num_batches_tracked'
        }
        problems = [
            f'{rule}: {item} initialises nothing: it wrote none of the '
            f'{self._given[rule]} new tensors that it was given'
            for rule, touched in self._touched.items()
            for item, wrote in zip(rule.init_cfg or ('the copy',), touched)
            if not wrote - counters
        ]
        rules = {rule.index: rule for rule in self._touched}
        bad: Dict[Rule, List[str]] = {}
        for tensor, index in self._infinite.items():
            name = self._slots[self._number[tensor]].name
            bad.setdefault(rules[index], []).append(name)
        return problems + [
            f'{rule} wrote values that are not finite: '
            f'{", ".join(names[:5])}{" ..." if len(names) > 5 else ""}'
            for rule, names in bad.items()
        ]


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
