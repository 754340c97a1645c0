"""From rules to a plan, and from the plan to weights.

:func:`make_plan` works out what each rule would write and only reads the
model; :meth:`InitPlan.apply` carries the plan out. The hook, the command and
the functions for other trainers all take these two steps.
"""

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
    Union,
)

import torch.nn as nn
from torch import Tensor

from .checks import findings as find
from .checks.matches import check_matches
from .errors import Collector, Finding, RuleError
from .model.loading import Recorded, recorded
from .model.whole import WholeModel
from .processes.ranks import check_alike, on_all_ranks, share
from .report.describe import add_scales, rule_records, shape_of, tensor_records
from .report.report import InitReport
from .rules.matching import Match, loaded_names, match_rules
from .rules.rule import Rule, checked_loaded, checked_seed, parse_rules
from .writing.apply import write_matches
from .writing.log import WriteLog


@dataclass
class InitPlan:
    """What each rule would write.

    Attributes:
        whole (WholeModel): The model's paths and its state dict.
        rules (list[Rule]): The rules, in order.
        matches (list[Match]): What they act on, in order.
        loaded (set[str]): Every name of each loaded tensor.
        findings (list[Finding]): What the user should see. Those of level
            ``'error'`` say why it cannot be carried out; there are none in a
            plan of :func:`plan_init`, which raises them.
    """

    whole: WholeModel
    rules: List[Rule]
    matches: List[Match]
    loaded: Set[str]
    findings: List[Finding]

    @property
    def errors(self) -> List[Finding]:
        """Why it cannot be carried out."""
        return [f for f in self.findings if f.level == 'error']

    def preview(self) -> InitReport:
        """What :meth:`apply` would report, as far as it is known before.

        Returns:
            InitReport: Origin ``'rule'`` for what rules would write, without
            values, and problems as findings of level ``'error'``. Where only
            running an initializer tells what it writes (``Apply``,
            ``InitWeights``, ``Pretrained``, ``override`` and users' own), all
            that it may write is taken for it.
        """
        expected = [[match.would_write()] for match in self.matches]
        log = WriteLog(self.whole.tree, self.matches, expected)
        return self._report(None, log)

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
        with on_all_ranks():
            self.check()
            seed = checked_seed(seed)
            with self.whole.bare():
                self._check_unchanged()
        check_alike(self._acts)
        with self.whole.bare():
            log = write_matches(self.matches, self.whole, seed)
            report = self._report(seed, log, optimized)
        add_scales(report.tensors, self.whole)
        return report

    def check(self) -> None:
        """Raise a RuleError with all that is wrong, if there is anything."""
        if self.errors:
            raise RuleError(self.errors)

    def _check_unchanged(self) -> None:
        """See to it that the model is the one that was planned for."""
        for entry in self.whole.tree.entries:
            if getattr(entry.owner, entry.key, None) is not entry.value:
                text = f'{entry.path} is another tensor than it was; plan anew'
                raise RuleError.of('model-changed', text, [entry.path])

    def _report(
        self,
        seed: Optional[int],
        log: WriteLog,
        optimized: Optional[Iterable[Tensor]] = None,
    ) -> InitReport:
        tree, written = log.tree, log.written
        findings = [
            *self.findings,
            *(log.problems() if seed is not None else ()),
            *find.not_written(self.matches, written),
            *find.not_copied(self.matches),
            *find.rewritten(tree, written),
            *find.overwritten(tree, written, self.loaded),
            *find.differed(log.differed),
            *find.frozen(tree, written),
        ]
        if optimized is not None:
            findings += find.not_optimized(tree, written, optimized)
        return InitReport(
            seed,
            tensor_records(self.loaded, log),
            rule_records(self.rules, self.matches, log),
            findings,
        )

    def _acts(self) -> List[Any]:
        """What has to be the same on all ranks."""
        forms = [
            (entry.path, entry.value.dtype, shape_of(entry.value))
            for entry in self.whole.tree.entries
        ]
        acts = [
            (
                match.rule.index,
                match.path,
                [entry.path for entry in match.new],
                [entry.path for entry in match.sources],
            )
            for match in self.matches
        ]
        return [forms, acts]


def make_plan(
    whole: WholeModel,
    rules: Sequence[Rule],
    known: Recorded,
    said: Collection[str] = (),
    files: bool = True,
) -> InitPlan:
    """Work out what the rules would write, and all that is wrong with them,
    where something was seen to be loaded and more is said to be; with
    ``files``, checkpoints that rules name have to be there.
    """
    wrong = Collector()
    tree, shards = whole.tree, whole.shards
    with whole.bare():
        names = set(known.names)
        strange: List[str] = []
        with wrong.gather():
            more, strange = loaded_names(tree, said)
            names |= more
        kept = tree.with_sharing(names)
        matches = match_rules(tree, rules, kept, wrong)
        by_rule: Dict[Rule, List[Match]] = {rule: [] for rule in rules}
        for match in matches:
            by_rule[match.rule].append(match)
        findings = find.nothing_loaded(known.useless)
        findings += find.unknown_loaded(strange)
        findings += find.uncovered(tree, matches, kept, known.whole)
        for rule, members in by_rule.items():
            with wrong.gather(rule):
                check_matches(rule, members, files)
                if members or rule.optional:
                    findings += find.nothing_to_do(rule, members)
                    findings += find.unused_items(rule, members)
        if shards.problem and any(match.new for match in matches):
            wrong.add('not-writable', shards.problem)
    rest = len(rules)  # what is about no rule comes last
    findings[:0] = sorted(
        wrong.findings, key=lambda f: rest if f.rule is None else f.rule
    )
    return InitPlan(whole, list(rules), matches, kept, findings)


def plan_init(
    model: nn.Module,
    modules: Sequence[Dict[str, Any]],
    *,
    loaded: Union[str, Collection[str]] = (),
) -> InitPlan:
    """Work out what the rules would write to a model, without writing.

    Args:
        model (nn.Module): The model, wrapped or not.
        modules (list[dict]): The rules, as the hook's ``modules``.
        loaded (str | Collection[str]): What a checkpoint supplied:
            state-dict names, as ``record_loads`` gives them, or paths as in
            rules, of all that is below. Defaults to none.

    Returns:
        InitPlan: What each rule would write and keep.

    Raises:
        RuleError: With everything that is wrong with the rules, by themselves
            or on this model.
    """
    rules, said = parse_rules(modules), checked_loaded(loaded)
    plan = make_plan(WholeModel(model), rules, Recorded(), said)
    plan.check()
    return plan


def init_modules(
    model: nn.Module,
    modules: Sequence[Dict[str, Any]],
    *,
    loaded: Union[str, Collection[str]] = (),
    seed: int = 0,
) -> InitReport:
    """Initialize parts of a model by rules, under any trainer.

    With several processes, all of them have to call this; rank 0's ``loaded``
    and ``seed`` count. The model may be sharded by FSDP or FSDP2, or be
    DeepSpeed's engine.

    Args:
        model (nn.Module): The model, its pretrained weights loaded.
        modules (list[dict]): The rules, as the hook's ``modules``.
        loaded (str | Collection[str]): What a checkpoint supplied:
            state-dict names, as ``record_loads`` gives them, or paths as in
            rules, of all that is below. The rules leave that alone. Defaults
            to none.
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
        rules, said = parse_rules(modules), checked_loaded(loaded)
        seed = checked_seed(seed)
    return run_rules(model, rules, seed, said, record=False)


def run_rules(
    model: nn.Module,
    rules: Sequence[Rule],
    seed: int,
    said: Collection[str],
    record: bool = True,
    optimized: Optional[Iterable[Tensor]] = None,
) -> InitReport:
    """Plan and apply, on all ranks together: rank 0's names of loaded tensors
    count (what is said, and with ``record`` what was recorded), and its seed.
    """
    with on_all_ranks():
        whole = WholeModel(model)
        known = recorded(whole.tree) if record else Recorded()
    known, said, seed = share((known, said, seed))
    with on_all_ranks():
        plan = make_plan(whole, rules, known, said)
        plan.check()
    return plan.apply(seed, optimized)
