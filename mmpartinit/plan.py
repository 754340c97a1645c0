"""From rules to a plan, and from the plan to weights.

:func:`plan_init` works out what each rule would write and only reads the
model; :meth:`InitPlan.apply` carries the plan out.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Union,
)

import torch
import torch.nn as nn
from torch import Tensor

from .checks import as_module, check_items, check_tensors
from .findings import (
    never_trained,
    nothing_to_do,
    overwritten,
    rewritten,
    uncovered,
    unused_layers,
)
from .paths import ModelTree, Slot
from .report import Finding, InitReport, RuleRecord, TensorRecord
from .rules import Rule, RuleError, parse_rules
from .seeding import (
    cuda_devices,
    module_seed,
    random_state_kept,
    seed_everything,
)
from .writing import write


@dataclass
class Match:
    """A module or parameter that a rule acts on.

    Attributes:
        rule (Rule): The rule.
        path (str): Path of the module or parameter.
        node (nn.Module | nn.Parameter): The thing itself.
        draw (int): How many earlier rules act on the same path.
        new (list[Slot]): State-dict entries under it that may be written.
        kept (list[Slot]): Those that must stay as they are.
    """

    rule: Rule
    path: str
    node: Union[nn.Module, nn.Parameter]
    draw: int
    new: List[Slot]
    kept: List[Slot]


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
    findings: List[Finding] = field(default_factory=list)

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
        written: Dict[int, List[int]] = {}
        problems: List[str] = []
        devices = cuda_devices(s.tensor for m in self.matches for s in m.new)
        with random_state_kept(devices), torch.no_grad():
            for rule, matches in self._acting().items():
                problems += _apply_rule(rule, matches, seed, devices, written)
        report = self._report(seed, written)
        problems += _not_finite(self.rules, report)
        if problems:
            raise RuleError.of(problems)
        slots = self.tree.slots
        report.findings += [
            *rewritten(slots, written),
            *overwritten(slots, written, self.loaded),
            *never_trained(slots, written, optimized),
        ]
        return report

    def _acting(self) -> Dict[Rule, List[Match]]:
        """The matches that have something to write, by rule and in order."""
        acting: Dict[Rule, List[Match]] = {}
        for match in self.matches:
            if match.new:
                acting.setdefault(match.rule, []).append(match)
        return acting

    def _report(self, seed: int, written: Dict[int, List[int]]) -> InitReport:
        tensors = []
        for slot in self.tree.slots:
            record = TensorRecord(
                slot.name,
                list(slot.tensor.shape),
                str(slot.tensor.dtype).replace('torch.', ''),
                'model',
            )
            if id(slot.tensor) in written:
                record.origin = 'rule'
                record.rule = written[id(slot.tensor)][-1]
                record.mean, record.std = _statistics(slot.tensor)
            elif id(slot.tensor) in self.loaded:
                record.origin = 'checkpoint'
            tensors.append(record)
        rules = [
            RuleRecord(
                rule.index,
                list(rule.paths),
                [str(item) for item in rule.init_cfg],
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
    names = set(loaded)
    ids = {id(slot.tensor) for slot in tree.slots if slot.name in names}
    plan = InitPlan(tree, rules, [], ids)
    draws: Counter = Counter()
    problems = []
    for rule in rules:
        numbers: Set[int] = set()
        for path, alternatives in zip(rule.paths, rule.alternatives):
            selected = tree.select(alternatives)
            numbers.update(selected)
            if not selected and not rule.optional:
                problems.append(_no_match(rule, path, tree))
        matches = []
        for number in tree.outermost(numbers):
            path, slots = tree.paths[number], tree.slots_under(number)
            kept = (
                []
                if rule.overwrite
                else [slot for slot in slots if id(slot.tensor) in ids]
            )
            spared = {id(slot.tensor) for slot in kept}
            new = [slot for slot in slots if id(slot.tensor) not in spared]
            matches.append(
                Match(rule, path, tree.nodes[number], draws[path], new, kept)
            )
            draws[path] += 1
        problems += [f'{rule}: {problem}' for problem in _check(rule, matches)]
        plan.matches += matches
    if problems:
        raise RuleError.of(problems)
    plan.findings = _plan_findings(plan)
    return plan


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


def _no_match(rule: Rule, path: str, tree: ModelTree) -> str:
    near = tree.nearest(path)
    if near:
        hint = 'the nearest that do exist: ' + ', '.join(near)
    else:
        parts = [name for name in tree.paths if name and '.' not in name]
        hint = 'the model consists of ' + ', '.join(parts[:12])
    return (
        f'{rule}: no module and no parameter matches {path!r}; '
        f'{hint} (optional=True would allow that)'
    )


def _check(rule: Rule, matches: List[Match]) -> List[str]:
    acting = [match for match in matches if match.new]
    if matches and not any(match.new or match.kept for match in matches):
        kinds = sorted({type(match.node).__name__ for match in matches})
        return [
            f'it matches {", ".join(m.path for m in matches[:3])} '
            f'({", ".join(kinds)}), and there are no parameters in there'
        ]
    broken = check_tensors([slot for match in acting for slot in match.new])
    if broken or not acting:
        return broken
    return check_items(
        rule, [(match.path, as_module(match.node)) for match in acting]
    )


def _plan_findings(plan: InitPlan) -> List[Finding]:
    covered = {
        id(slot.tensor)
        for match in plan.matches
        for slot in [*match.new, *match.kept]
    }
    findings = uncovered(plan.tree.slots, covered, plan.loaded)
    for rule in plan.rules:
        matches = [match for match in plan.matches if match.rule is rule]
        findings += nothing_to_do(
            rule,
            matches,
            sum(len(match.new) for match in matches),
            [slot.name for match in matches for slot in match.kept],
        )
        findings += unused_layers(
            rule, (as_module(match.node) for match in matches if match.new)
        )
    return findings


def _apply_rule(
    rule: Rule,
    matches: List[Match],
    seed: int,
    devices: List[int],
    written: Dict[int, List[int]],
) -> List[str]:
    """Write one rule; note in ``written`` the rules that wrote each
    tensor, by its ``id()``. Gives what is wrong with the outcome.
    """
    by_item: List[Set[int]] = [set() for _ in rule.init_cfg]
    for match in matches:
        seed_everything(module_seed(seed, match.path, match.draw), devices)
        try:
            found = write(
                as_module(match.node), rule.init_cfg, match.new, match.kept
            )
        except Exception as error:
            raise RuleError(
                f'{rule} at {match.path or "the model"}: {error}'
            ) from error
        for wrote, tensors in zip(by_item, found):
            wrote |= tensors
    for tensor in set().union(*by_item):
        written.setdefault(tensor, []).append(rule.index)
    return [
        f'{rule}: {item} initialises nothing: it wrote none of the '
        f'{sum(len(m.new) for m in matches)} new tensors that it was '
        'given'
        for item, wrote in zip(rule.init_cfg, by_item)
        if not wrote
    ]


def _statistics(tensor: Tensor) -> List[Optional[float]]:
    if not tensor.numel():
        return [None, None]
    values = tensor.detach()
    values = values.abs() if values.is_complex() else values.float()
    return [values.mean().item(), values.std(unbiased=False).item()]


def _not_finite(rules: List[Rule], report: InitReport) -> List[str]:
    bad: Dict[int, List[str]] = {}
    for record in report.tensors:
        if record.mean is not None and record.mean - record.mean != 0:
            bad.setdefault(record.rule, []).append(record.name)
    return [
        f'{rules[index]} wrote values that are not finite: '
        f'{", ".join(names[:5])}{" ..." if len(names) > 5 else ""}'
        for index, names in bad.items()
    ]
