"""From rules to a plan, and from the plan to weights.

:func:`plan_init` works out what each rule would write and only reads the
model; :meth:`InitPlan.apply` carries the plan out.
"""

import math
from dataclasses import dataclass
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
)

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

from .checks import check_matches
from .findings import (
    never_trained,
    not_copied,
    not_written,
    nothing_to_do,
    overwritten,
    rewritten,
    uncovered,
    unused_layers,
)
from .matching import Match, loaded_ids, match_rules
from .paths import ModelTree
from .report import Finding, InitReport, RuleRecord, TensorRecord
from .rules import Rule, RuleError, parse_rules
from .watch import has_memory
from .writing import write_matches


@dataclass
class InitPlan:
    """What each rule would write.

    Attributes:
        tree (ModelTree): The model's paths and its state dict.
        rules (list[Rule]): The rules, in order.
        matches (list[Match]): What they act on, in order.
        loaded (set[int]): ``id()`` of every loaded tensor.
        findings (list[Finding]): What the user should see.
    """

    tree: ModelTree
    rules: List[Rule]
    matches: List[Match]
    loaded: Set[int]
    findings: List[Finding]

    def apply(
        self, seed: int = 0, optimized: Optional[Iterable[Tensor]] = None
    ) -> InitReport:
        """Write the new values.

        Loaded tensors come out bit for bit as they went in, and the global
        random state is left as it was.

        Args:
            seed (int): Seed of the run. Defaults to 0.
            optimized (Iterable[Tensor], optional): Every parameter that an
                optimizer updates, to find the written ones that are not among
                them. Defaults to None: not looked for.

        Returns:
            InitReport: What was done, tensor by tensor.

        Raises:
            RuleError: If a rule wrote nothing or wrote values that are not
                finite, if it replaced parameters instead of writing into
                them, or if its initializer failed.
        """
        slots = self.tree.slots
        written = write_matches(self.matches, slots, seed)
        report = self._report(seed, written)
        report.findings += [
            *not_written(self.matches, written),
            *not_copied(self.matches),
            *rewritten(slots, written),
            *overwritten(slots, written, self.loaded),
            *never_trained(slots, written, optimized),
        ]
        return report

    def _report(self, seed: int, written: Dict[int, List[int]]) -> InitReport:
        sources = {
            (match.rule.index, name): source.name
            for match in self.matches
            for name, source in match.copies.items()
        }
        tensors = []
        for slot in self.tree.slots:
            record = TensorRecord(
                slot.name,
                [] if is_lazy(slot.tensor) else list(slot.tensor.shape),
                str(slot.tensor.dtype).replace('torch.', ''),
                'model',
            )
            if id(slot.tensor) in written:
                record.origin = 'rule'
                record.rule = written[id(slot.tensor)][-1]
                record.mean, record.std = _statistics(slot.tensor)
                record.source = sources.get((record.rule, slot.name))
            elif id(slot.tensor) in self.loaded:
                record.origin = 'checkpoint'
            tensors.append(record)
        rules = [
            RuleRecord(
                rule.index,
                list(rule.paths),
                [str(item) for item in rule.init_cfg],
                rule.copy_from,
            )
            for rule in self.rules
        ]
        for match in self.matches:
            record = rules[match.rule.index]
            record.matched.append(match.path)
            record.wrote += [
                slot.name
                for slot in match.new
                if match.rule.index in written.get(id(slot.tensor), ())
            ]
            record.kept += [slot.name for slot in match.kept]
        return InitReport(seed, tensors, rules, list(self.findings))


def plan_init(
    model: nn.Module,
    modules: Sequence[Dict[str, Any]],
    *,
    loaded: Collection[str] = (),
) -> InitPlan:
    """Work out what the rules would write to a model, without writing.

    Args:
        model (nn.Module): The model, wrapped or not.
        modules (list[dict]): The rules, as the hook's ``modules``.
        loaded (Collection[str]): State-dict names of the tensors that a
            checkpoint supplied, as ``record_loads`` gives them; names that
            the model does not have are no matter. Defaults to none.

    Returns:
        InitPlan: What each rule would write and keep.

    Raises:
        RuleError: With everything that is wrong with the rules, by themselves
            or on this model.
    """
    return plan_rules(model, parse_rules(modules), loaded)


def plan_rules(
    model: nn.Module, rules: List[Rule], loaded: Collection[str]
) -> InitPlan:
    """:func:`plan_init` for rules that are parsed already."""
    tree = ModelTree(model)
    ids = loaded_ids(tree.slots, set(loaded))
    matches, problems = match_rules(tree, rules, ids)
    by_rule: Dict[Rule, List[Match]] = {rule: [] for rule in rules}
    for match in matches:
        by_rule[match.rule].append(match)
    for rule, members in by_rule.items():
        problems += check_matches(rule, members)
    if problems:
        raise RuleError.of(problems)
    covered = {
        id(slot.tensor)
        for match in matches
        for slot in [*match.new, *match.kept]
    }
    findings = uncovered(tree.slots, covered, ids)
    for rule, members in by_rule.items():
        findings += nothing_to_do(rule, members)
        findings += unused_layers(rule, members)
    return InitPlan(tree, rules, matches, ids, findings)


def init_modules(
    model: nn.Module,
    modules: Sequence[Dict[str, Any]],
    *,
    loaded: Collection[str] = (),
    seed: int = 0,
) -> InitReport:
    """Initialize parts of a model by rules, under any trainer.

    Args:
        model (nn.Module): The model, its pretrained weights loaded.
        modules (list[dict]): The rules, as the hook's ``modules``.
        loaded (Collection[str]): State-dict names of the tensors that a
            checkpoint supplied, as ``record_loads`` gives them. The rules
            leave these alone. Defaults to none.
        seed (int): Seed of the run. Defaults to 0.

    Returns:
        InitReport: What was done, tensor by tensor.

    Raises:
        RuleError: If the rules are wrong, by themselves or on this model;
            before anything is written where it can be known before.

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        >>> report = init_modules(
        ...     model, [dict(path='1', init_cfg=dict(type='Xavier'))], seed=7)
        >>> report.origins()
        {'checkpoint': 0, 'rule': 2, 'model': 2}
    """
    return plan_init(model, modules, loaded=loaded).apply(seed)


def _statistics(tensor: Tensor) -> List[Optional[float]]:
    """Mean and standard deviation; None where there are none to give."""
    if not has_memory(tensor):
        return [None, None]
    values = tensor.detach()
    if values.is_complex():
        values = values.abs()
    elif values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    numbers = values.mean().item(), values.std(unbiased=False).item()
    return [x if math.isfinite(x) else None for x in numbers]
