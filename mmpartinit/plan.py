"""From rules to a plan, and from the plan to weights.

:func:`plan_init` works out what each rule would write and only reads the
model; :meth:`InitPlan.apply` carries the plan out.
"""

import math
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
from torch.nn.parameter import is_lazy

from .checks import as_module, check_items, check_tensors
from .findings import (
    never_trained,
    not_written,
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
from .watch import WriteWatch, has_memory
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
        slots = self.tree.slots
        watch = WriteWatch(slot.tensor for slot in slots)
        written: Dict[int, List[int]] = {}
        problems: List[str] = []
        devices = cuda_devices(s.tensor for m in self.matches for s in m.new)
        with random_state_kept(devices), torch.no_grad():
            for rule, matches in self._acting().items():
                touched: List[Set[int]] = [set() for _ in rule.init_cfg]
                for match in matches:
                    number = module_seed(seed, match.path, match.draw)
                    seed_everything(number, devices)
                    found = _write_match(match, watch, slots)
                    for item_touched, tensors in zip(touched, found):
                        item_touched |= tensors
                problems += _without_effect(rule, matches, touched)
                new = {id(s.tensor) for m in matches for s in m.new}
                for tensor in new.intersection(set().union(*touched)):
                    written.setdefault(tensor, []).append(rule.index)
        problems += _not_finite(self.rules, slots, written)
        if problems:
            raise RuleError.of(problems)
        report = self._report(seed, written)
        report.findings += [
            *not_written(self.matches, written),
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
                [] if is_lazy(slot.tensor) else list(slot.tensor.shape),
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
    ids = _loaded_ids(tree.slots, set(loaded))
    plan = InitPlan(tree, rules, [], ids)
    draws: Counter = Counter()
    problems = []
    for rule in rules:
        numbers: Set[int] = set()
        for path, alternatives in zip(rule.paths, rule.alternatives):
            selected = tree.select(alternatives)
            numbers.update(selected)
            if not selected and not rule.optional:
                # Looking for near names takes long in a big model.
                hint = len(problems) < 20
                problems.append(_no_match(rule, path, tree, hint))
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


def _loaded_ids(slots: List[Slot], names: Set[str]) -> Set[int]:
    """``id()`` of the tensors that were loaded, under any of their names, and
    of those that share memory with them.
    """
    loaded = [slot.tensor for slot in slots if slot.name in names]
    ids = {id(tensor) for tensor in loaded}
    memory = {t.data_ptr() for t in loaded if has_memory(t)}
    return ids.union(
        id(slot.tensor)
        for slot in slots
        if has_memory(slot.tensor) and slot.tensor.data_ptr() in memory
    )


def _no_match(rule: Rule, path: str, tree: ModelTree, hint: bool) -> str:
    near = tree.nearest(path) if hint else []
    if near:
        there = 'the nearest that do exist: ' + ', '.join(near)
    else:
        parts = [name for name in tree.paths if name and '.' not in name]
        there = 'the model consists of ' + ', '.join(parts[:12])
    return (
        f'{rule}: no module and no parameter matches {path!r}; {there} '
        '(optional=True would allow that)'
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


def _write_match(
    match: Match, watch: WriteWatch, slots: List[Slot]
) -> List[Set[int]]:
    """Write one match, and see to it that nothing else was written."""
    where = f'{match.rule} at {match.path or "the model"}'
    try:
        touched = write(
            as_module(match.node),
            match.rule.init_cfg,
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


def _without_effect(
    rule: Rule, matches: List[Match], touched: List[Set[int]]
) -> List[str]:
    """Initializers that wrote nothing, not even something that was kept."""
    given = sum(len(match.new) for match in matches)
    return [
        f'{rule}: {item} initialises nothing: it wrote none of the '
        f'{given} new tensors that it was given'
        for item, wrote in zip(rule.init_cfg, touched)
        if not wrote
    ]


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


def _not_finite(
    rules: List[Rule], slots: List[Slot], written: Dict[int, List[int]]
) -> List[str]:
    bad: Dict[int, List[str]] = {}
    for slot in slots:
        # Not in buffers: masks hold infinities on purpose.
        if (
            id(slot.tensor) in written
            and isinstance(slot.tensor, nn.Parameter)
            # Not finite if any element is not, at a fraction of the cost.
            and not math.isfinite(slot.tensor.detach().sum().abs().item())
            and not torch.isfinite(slot.tensor).all()
        ):
            index = written[id(slot.tensor)][-1]
            bad.setdefault(index, []).append(slot.name)
    return [
        f'{rules[index]} wrote values that are not finite: '
        f'{", ".join(names[:5])}{" ..." if len(names) > 5 else ""}'
        for index, names in bad.items()
    ]
