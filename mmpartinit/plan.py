"""From rules to a plan, and from the plan to weights.

:func:`plan_init` works out what each rule would write and only reads the
model; :meth:`InitPlan.apply` carries the plan out.
"""

import hashlib
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
from mmengine.dist import get_world_size
from torch import Tensor

from .checks import check_matches
from .findings import (
    differed,
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
from .parallel import on_all_ranks, share, together
from .preview import describe, preview, shape_of
from .report import Finding, InitReport
from .rules import Rule, RuleError, parse_rules
from .scales import add_scales
from .tree import ModelTree
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
            values, and problems as findings of level ``'error'``.
        """
        return preview(self)

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
        if self.problems:
            raise RuleError.of(self.problems)
        slots, shards = self.tree.slots, self.tree.shards
        self._compare()
        with self.tree.bare():
            outcome = write_matches(self.matches, slots, seed, shards)
            written = outcome.written
            report = describe(self, seed, outcome)
            report.findings += [
                *not_written(self.matches, written),
                *not_copied(self.matches),
                *rewritten(slots, written),
                *overwritten(slots, written, self.loaded),
                *differed(slots, outcome.differed),
                *never_trained(slots, written, optimized),
            ]
        add_scales(report, self.tree)
        return report

    def _compare(self) -> None:
        """See to it that all ranks have planned the same."""
        if get_world_size() == 1:
            return
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
        digest = hashlib.sha256(repr((forms, acts)).encode()).hexdigest()
        digests = together(None, digest)
        for rank, other in enumerate(digests):
            if other != digests[0]:
                raise RuleError(
                    f'rank {rank} has another model than rank 0, other rules '
                    'or other loaded tensors; they must be the same on all'
                )


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
    plan = survey(model, rules, loaded)
    if plan.problems:
        raise RuleError.of(plan.problems)
    return plan


def survey(
    model: nn.Module,
    rules: List[Rule],
    loaded: Collection[str],
    files: bool = True,
) -> InitPlan:
    """Make a plan that holds what is wrong with it, to see all of it.

    Args:
        model (nn.Module): The model, wrapped or not.
        rules (list[Rule]): The rules, parsed.
        loaded (Collection[str]): Names of loaded tensors.
        files (bool): Whether checkpoints that rules name must be there.
            Defaults to True.

    Returns:
        InitPlan: What each rule would write and keep, and the problems.
    """
    tree = ModelTree(model)
    with tree.bare():
        return _plan(tree, rules, loaded, files)


def _plan(
    tree: ModelTree, rules: List[Rule], loaded: Collection[str], files: bool
) -> InitPlan:
    ids = loaded_ids(tree.slots, set(loaded))
    matches, problems = match_rules(tree, rules, ids)
    by_rule: Dict[Rule, List[Match]] = {rule: [] for rule in rules}
    for match in matches:
        by_rule[match.rule].append(match)
    sound = []
    for rule, members in by_rule.items():
        found = check_matches(rule, members, files)
        problems += found
        if not found and (members or rule.optional):
            sound.append(rule)
    if tree.shards.problem and any(match.new for match in matches):
        problems.append(tree.shards.problem)
    covered = {
        id(slot.tensor)
        for match in matches
        for slot in [*match.new, *match.kept]
    }
    findings = uncovered(tree, covered, ids)
    for rule in sound:
        findings += nothing_to_do(rule, by_rule[rule])
        findings += unused_layers(rule, by_rule[rule])
    return InitPlan(tree, rules, matches, ids, findings, problems)


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
    rules: List[Rule],
    loaded: Collection[str],
    seed: int,
    optimized: Optional[Iterable[Tensor]] = None,
) -> InitReport:
    """Plan and apply, on all ranks together: rank 0's names of loaded tensors
    count, and its seed.
    """
    loaded, seed = share((set(loaded), seed))
    with on_all_ranks():
        plan = plan_rules(model, rules, loaded)
    return plan.apply(seed, optimized)
