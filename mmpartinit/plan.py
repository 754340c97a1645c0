"""From rules to a plan, and from the plan to weights.

:func:`make_plan` works out what each rule would write and only reads the
model; :meth:`InitPlan.apply` carries the plan out. The hook, the command and
the functions for other trainers all take these two steps.
"""

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
)

import torch.nn as nn
from torch import Tensor

from .checks import findings as find
from .checks.matches import check_matches
from .errors import RuleError
from .model.tree import ModelTree
from .processes.ranks import check_alike, on_all_ranks, share
from .report.describe import add_scales, rule_records, shape_of, tensor_records
from .report.records import Finding
from .report.report import InitReport
from .rules.matching import Match, loaded_ids, match_rules
from .rules.rule import Rule, parse_rules
from .writing.apply import Outcome, write_matches


@dataclass
class InitPlan:
    """What each rule would write.

    Attributes:
        tree (ModelTree): The model's paths and its state dict.
        rules (list[Rule]): The rules, in order.
        matches (list[Match]): What they act on, in order.
        loaded (set[int]): ``id()`` of every loaded tensor.
        findings (list[Finding]): What the user should see.
        problems (list[str]): Why it cannot be carried out; none in a plan of
            :func:`plan_init`, which raises them.
    """

    tree: ModelTree
    rules: List[Rule]
    matches: List[Match]
    loaded: Set[int]
    findings: List[Finding]
    problems: List[str] = field(default_factory=list)

    def preview(self) -> InitReport:
        """What :meth:`apply` would report, as far as it is known before.

        Returns:
            InitReport: Origin ``'rule'`` for what rules would write, without
            values, and problems as findings of level ``'error'``. Where only
            running an initializer tells what it writes (``Apply``,
            ``InitWeights``, ``Pretrained``, ``override`` and users' own), all
            that it may write is taken for it.
        """
        expected = Outcome()
        for match in self.matches:
            for slot in match.would_write():
                expected.add(slot.tensor, [match.rule.index])
        report = self._report(None, expected)
        errors = [Finding('error', 'rule', text, []) for text in self.problems]
        report.findings[:0] = errors
        return report

    def apply(
        self, seed: int = 0, optimized: Optional[Iterable[Tensor]] = None
    ) -> InitReport:
        """Write the new values.

        With several processes, all of them have to call this. Loaded tensors
        come out bit for bit as they went in, and the global random state is
        left as it was.

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
        self.raise_problems()
        check_alike(self._acts)
        tree = self.tree
        with tree.bare():
            outcome = write_matches(
                self.matches, tree.slots, seed, tree.shards
            )
            report = self._report(seed, outcome, optimized)
        add_scales(report.tensors, tree)
        return report

    def raise_problems(self) -> None:
        """Raise a RuleError with all that is wrong, if there is anything."""
        if self.problems:
            raise RuleError.of(self.problems)

    def _report(
        self,
        seed: Optional[int],
        outcome: Outcome,
        optimized: Optional[Iterable[Tensor]] = None,
    ) -> InitReport:
        slots, written = self.tree.slots, outcome.written
        findings = [
            *self.findings,
            *find.not_written(self.matches, written),
            *find.not_copied(self.matches),
            *find.rewritten(slots, written),
            *find.overwritten(slots, written, self.loaded),
            *find.differed(slots, outcome.differed),
            *find.frozen(slots, written),
        ]
        if optimized is not None:
            findings += find.not_optimized(slots, written, optimized)
        return InitReport(
            seed,
            tensor_records(slots, self.loaded, self.matches, outcome),
            rule_records(self.rules, self.matches, outcome),
            findings,
        )

    def _acts(self) -> List[Any]:
        """What has to be the same on all ranks."""
        forms = [
            (slot.name, slot.tensor.dtype, shape_of(slot.tensor))
            for slot in self.tree.slots
        ]
        acts = [
            (
                match.rule.index,
                match.path,
                [slot.name for slot in match.new],
                [slot.name for slot in match.sources],
            )
            for match in self.matches
        ]
        return [forms, acts]


def make_plan(
    model: nn.Module,
    rules: Sequence[Rule],
    loaded: Collection[str],
    files: bool = True,
) -> InitPlan:
    """Work out what the rules would write, and all that is wrong with them;
    with ``files``, also that checkpoints that they name are missing.
    """
    tree = ModelTree(model)
    with tree.bare():
        ids = loaded_ids(tree.slots, set(loaded))
        matches, problems = match_rules(tree, rules, ids)
        by_rule: Dict[Rule, List[Match]] = {rule: [] for rule in rules}
        for match in matches:
            by_rule[match.rule].append(match)
        findings = find.uncovered(tree, matches, ids)
        for rule, members in by_rule.items():
            wrong = check_matches(rule, members, files)
            problems += wrong
            if not wrong and (members or rule.optional):
                findings += find.nothing_to_do(rule, members)
                findings += find.unused_layers(rule, members)
        if tree.shards.problem and any(match.new for match in matches):
            problems.append(tree.shards.problem)
    return InitPlan(tree, list(rules), matches, ids, findings, problems)


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
    plan = make_plan(model, parse_rules(modules), loaded)
    plan.raise_problems()
    return plan


def init_modules(
    model: nn.Module,
    modules: Sequence[Dict[str, Any]],
    *,
    loaded: Collection[str] = (),
    seed: int = 0,
) -> InitReport:
    """Initialize parts of a model by rules, under any trainer.

    With several processes, all of them have to call this; rank 0's ``loaded``
    and ``seed`` count. The model may be sharded by FSDP or FSDP2, or be
    DeepSpeed's engine.

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
    with on_all_ranks():
        rules = parse_rules(modules)
    return run_rules(model, rules, loaded, seed)


def run_rules(
    model: nn.Module,
    rules: Sequence[Rule],
    loaded: Collection[str],
    seed: int,
    optimized: Optional[Iterable[Tensor]] = None,
) -> InitReport:
    """Plan and apply, on all ranks together: rank 0's names of loaded tensors
    count, and its seed.
    """
    loaded, seed = share((set(loaded), seed))
    with on_all_ranks():
        plan = make_plan(model, rules, loaded)
        plan.raise_problems()
    return plan.apply(seed, optimized)
