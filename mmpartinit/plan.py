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
    Union,
)

from torch import Tensor

from .checks import findings as find
from .checks import origins as origin
from .checks import values as value
from .checks.matches import check_matches
from .errors import Collector, Finding, RuleError
from .model.origins import Origins
from .model.whole import WholeModel
from .processes.masters import Optimized
from .processes.ranks import check_alike, on_all_ranks
from .report import describe
from .report.report import InitReport
from .report.training import drawn_by_rules, tell_training
from .rules.matching import Match, loaded_names, match_rules
from .rules.rule import Rule, checked_seed
from .writing.apply import write_matches
from .writing.log import WriteLog


@dataclass
class InitPlan:
    """What each rule would write.

    Attributes:
        whole (WholeModel): The model's paths and its state dict.
        rules (list[Rule]): The rules, in order.
        matches (list[Match]): What they act on, in order.
        origins (Origins): What decided the values that the model holds.
        findings (list[Finding]): What the user should see. Those of level
            ``'error'`` say why it cannot be carried out; there are none in a
            plan of :func:`plan_init`, which raises them.
    """

    whole: WholeModel
    rules: List[Rule]
    matches: List[Match]
    origins: Origins
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
        expected = [match.expected() for match in self.matches]
        log = WriteLog(self.whole.tree, self.matches, expected)
        return self._report(None, log)

    def apply(
        self,
        seed: int = 0,
        optimized: Optional[Iterable[Union[Tensor, Dict[str, Any]]]] = None,
    ) -> InitReport:
        """Write the new values.

        With several processes, all of them have to call this. Loaded tensors
        come out bit for bit as they went in, and the global random state is
        left as it was.

        Args:
            seed (int): Seed of the run. Defaults to 0.
            optimized (Iterable, optional): Every parameter that an optimizer
                updates, or its ``param_groups``, to say which parameters train
                and to find the written ones that do not. Defaults to None: not
                looked for.

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
            log = write_matches(
                self.matches, self.whole, seed, self.origins.classes
            )
            known = None if optimized is None else Optimized(optimized)
            report = self._report(seed, log, known)
        describe.add_scales(report.tensors, self.whole)
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
        optimized: Optional[Optimized] = None,
    ) -> InitReport:
        tree, written = log.tree, log.written
        tensors = describe.tensor_records(self.origins, log)
        findings = [
            *self.findings,
            *(log.problems() if seed is not None else ()),
            *find.not_written(self.matches, written),
            *find.not_copied(self.matches),
            *find.by_name(log.notes),
            *find.rewritten(self.rules, written),
            *find.overwritten(tree, written, self.origins.kept),
            *find.differed(log.differed, self.matches),
            *find.frozen(tree, drawn_by_rules(tensors)),
            *origin.never_trained(tree, self.origins, written),
        ]
        if seed is not None:
            findings += value.padding_filled(tree, log.matches, log.wrote)
        if optimized is not None:
            findings += find.not_optimized(tree, written, optimized)
        report = InitReport(
            seed,
            tensors,
            describe.rule_records(self.rules, self.matches, log),
            findings,
            self.origins.known_by,
            describe.checkpoint_records(self.origins),
        )
        tell_training(report, tree, optimized)
        return report

    def _acts(self) -> List[Any]:
        """What has to be the same on all ranks."""
        forms = [
            (entry.path, entry.value.dtype, describe.shape_of(entry.value))
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
    origins: Origins,
    said: Collection[str] = (),
    files: bool = True,
) -> InitPlan:
    """Work out what the rules would write, and all that is wrong with them,
    where the origins of what the model holds are known and more is said to be
    loaded; with ``files``, checkpoints that rules name have to be there.
    """
    wrong = Collector()
    tree, shards = whole.tree, whole.shards
    with whole.bare():
        strange: List[str] = []
        with wrong.gather():
            names, strange = loaded_names(tree, said)
            origins.add(tree, names)
        matches = match_rules(tree, rules, origins.kept, wrong)
        by_rule: Dict[Rule, List[Match]] = {rule: [] for rule in rules}
        for match in matches:
            by_rule[match.rule].append(match)
        findings = origin.unknown_loaded(strange)
        findings += origin.about_origins(tree, origins, matches)
        for rule, members in by_rule.items():
            with wrong.gather(rule):
                check_matches(rule, members, files)
                if members or rule.optional:
                    findings += find.nothing_to_do(rule, members)
                    findings += find.memory(tree, rule, members)
                    findings += find.unused_items(rule, members)
                    findings += value.unused_values(rule, members)
                    findings += origin.put_in(rule, members, origins)
        if shards.problem and any(match.new for match in matches):
            wrong.add('not-writable', shards.problem)
    rest = len(rules)  # what is about no rule comes last
    findings[:0] = sorted(
        wrong.findings, key=lambda f: rest if f.rule is None else f.rule
    )
    return InitPlan(whole, list(rules), matches, origins, findings)
