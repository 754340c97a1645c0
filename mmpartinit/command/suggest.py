"""Rules for what no rule covers yet, tried on the network."""

from typing import Any, Dict, List, Set, Tuple

import torch.nn as nn
from rich.console import Console
from rich.progress import track

from ..errors import Collector, RuleError
from ..model.blocks import outermost_new, own_starts
from ..model.tree import Node
from ..plan import InitPlan, make_plan
from ..rules.rule import Rule, read_rules
from ..trial.places import Place
from ..trial.trial import Outcome
from .candidates import advised, candidates, why_none
from .families import Groups, families, title
from .generalize import skeleton
from .layered import RuleMaker
from .look import Look, LookError
from .planning import config_rules
from .suggestion import Suggestion, owners_first, with_effect
from .trying import Values, percent, try_out, what_came


class Suggester:
    """Finds rules for the new parts of a model.

    It tries initializers out on the model, which nobody will train.
    """

    def __init__(self, seen: Look) -> None:
        self.seen, self.tree = seen, seen.whole.tree
        self.rules: List[Rule]
        self.rules, self.said, _ = config_rules(seen, Collector())
        plan = self._plan(self.rules)
        self.errors = plan.errors
        self.names: Set[str] = _uncovered(plan)
        kept = seen.origins.kept  # what is said to be loaded, too
        self.own = own_starts(self.tree, seen.origins)
        self.covered = {e.path for match in plan.matches for e in match.new}
        self.values = Values(seen, kept)
        if not plan.errors:
            self._apply(plan)
        self.maker = RuleMaker(self.tree, self.values)
        self.blocks = seen.new_parts
        trying = self.blocks if self.names or self.own else []
        self.tried = try_out(seen, trying, kept)
        self.left: Set[str] = set()  # new ones that are well as they are
        self.buffers: List[str] = []  # new ones, which no rule can write

    def _apply(self, plan: InitPlan) -> None:
        """Start from what the rules of the config write."""
        try:
            plan.apply()
        except RuleError as error:
            self.errors = error.findings
            self.values.restore()
        else:
            self.values = Values(self.seen, self.values.kept)

    def suggest(self) -> List[Suggestion]:
        """Rules that cover all new parameters that no rule covers, and words
        on what is well without.

        Raises:
            LookError: If there are new parameters that no rule can cover.
        """
        every = self._families(self.names)
        self.maker.try_owners([group for groups in every for group in groups])
        found = self._started_by_code()
        bar = Console(stderr=True)
        for family in track(
            every,
            'trying starts',
            console=bar,
            transient=True,
            disable=not bar.is_terminal,
        ):
            for suggestion in self._for_family(family):
                suggestion.add_to(found)
        self.values.restore()
        found = owners_first(found)
        self._check(found)
        return found

    def _plan(self, rules: List[Rule]) -> InitPlan:
        seen = self.seen
        return make_plan(seen.whole, rules, seen.origins, self.said, False)

    def _families(self, names: Set[str]) -> List[Groups]:
        return families(outermost_new(self.tree, names), self.tried)

    def _started_by_code(self) -> List[Suggestion]:
        """Words on the blocks that their own code starts."""
        names = {
            name
            for block in self.blocks
            for names in [{entry.path for entry in block.tensors()}]
            if names & self.own.keys()
            and not names & (self.names | self.covered)
            for name in names
        }
        found = []
        for family in self._families(names):
            comment = [title(nodes) for nodes in family]
            comment.append('Kept as its own code starts it.')
            found.append(Suggestion(comment))
            places = self._judged(family)
            if not places:
                continue
            self.values.restore()
            outcome = self.tried.outcome(places)
            if outcome.is_neutral:
                comment.append(what_came(outcome))
                continue
            text = f'changes later parts by {percent(outcome.drift)}.'
            comment[-1] = f'Kept as its own code starts it, which {text}'
            rules, _ = self._best(family, places, outcome)
            if rules:
                rules[0].comment.insert(1, f'Its own start {text}')
                found[-1:] = rules
        return found

    def _base(self, groups: Groups) -> List[Suggestion]:
        """Rules that suit the layers of some parts."""
        base = [rule for g in groups for rule in self.maker.rules_for(g)]
        return self._as_built(base, groups) if self.own else base

    def _for_family(self, groups: Groups) -> List[Suggestion]:
        """Rules for parts that stand together: the first start that is
        neutral, or none, and why.
        """
        places = self._judged(groups)
        if not places:
            return self._untried(groups)
        self.values.restore()
        own = self.tried.outcome(places)
        if own.is_neutral:
            return self._neutral(groups, places, own)
        rules, best = self._best(groups, places, own)
        if rules:
            return rules
        text = why_none(places[0], self.tree, best)
        return [self._left_alone(groups, text)]

    def _best(
        self, groups: Groups, places: List[Place], best: Outcome
    ) -> Tuple[List[Suggestion], Outcome]:
        """The first neutral start, as rules beside what suits the layers; or
        none, and what came of the best, that which it was built with included.
        """
        base = self._base(groups)
        for candidate in candidates(places[0], self.tree):
            more = self.maker.as_rules(candidate.starts, groups)
            rules = [*base, *more]
            if not more or self.values.write([r.rule for r in rules]) is None:
                continue
            wrote = self.values.wrote
            outcome = self.tried.outcome(places)
            if outcome.is_neutral:
                more[0].comment += [candidate.title, what_came(outcome)]
                return with_effect(rules, wrote, groups), outcome
            best = min(best, outcome, key=lambda found: found.drift)
        return [], best

    def _judged(self, groups: Groups) -> List[Place]:
        """The places of some parts, if what is harmless there is known."""
        nodes = [node for nodes in groups for node in nodes]
        places = self.tried.places(nodes)
        return places if all(place.use for place in places) else []

    def _neutral(
        self, groups: Groups, places: List[Place], own: Outcome
    ) -> List[Suggestion]:
        """Rules for parts that are neutral as they were built: what suits
        their layers, where that is as good, or none.
        """
        base = self._base(groups)
        if self.values.write([rule.rule for rule in base]) is not None:
            written = self.tried.outcome(places)
            if written.is_neutral:
                base[0].comment.append(what_came(written))
                return base
        return [self._left_alone(groups, f'Best as built. {what_came(own)}')]

    def _left_alone(self, groups: Groups, text: str) -> Suggestion:
        """Words on parts that are better as they were built."""
        nodes = [node for group in groups for node in group]
        self.left |= {e.path for node in nodes for e in node.tensors()}
        return Suggestion([*(title(group) for group in groups), text])

    def _as_built(
        self, rules: List[Suggestion], groups: Groups
    ) -> List[Suggestion]:
        """Rules, and such for constants that a block's own code chose, which
        these would replace.
        """
        if self.values.write([r.rule for r in rules]) is None:
            return rules
        found: Dict[Any, List[Node]] = {}
        for group in groups:
            for node in group:
                for entry in node.tensors():
                    value = self.own.get(entry.path)
                    if value is not None and (entry.value != value).any():
                        name = entry.path[len(node.path) :]
                        key = skeleton(node.path), name, value
                        found.setdefault(key, []).append(
                            self.tree.index[entry.path]
                        )
        more = [
            Suggestion(
                ['As its own code starts it.'],
                self.maker.patterns(nodes),
                [dict(type='Constant', val=value)],
            )
            for (_, _, value), nodes in found.items()
        ]
        wrote = [{node.path for node in nodes} for nodes in found.values()]
        wrote = [*self.values.wrote, *wrote]
        return with_effect([*rules, *more], wrote, groups)

    def _untried(self, groups: Groups) -> List[Suggestion]:
        """Rules for parts of which it is not known what would be harmless, and
        what suits some of these.
        """
        base, nodes = self._base(groups), groups[-1]
        place = next(iter(self.tried.places(nodes)), None)
        if self.tried.trial is not None:
            why = place.why if place else 'it is not called'
            base[0].comment.append(
                f'Tried: not known what would be harmless, since {why}.'
            )
        found = advised(nodes[0], place, self.tree)
        if found is None:
            return base
        name, start, text = found
        path = self.maker.patterns(self.maker.below(nodes, name))
        return [*base, Suggestion([text], path, [start], True)]

    def _check(self, suggestions: List[Suggestion]) -> None:
        """See that the plan with these rules finds nothing uncovered."""
        modules = [s.rule for s in suggestions if s.path and not s.is_advice]
        wrong = Collector()
        first = max((rule.index for rule in self.rules), default=-1) + 1
        rules = read_rules(modules, wrong, first)
        plan = self._plan([*self.rules, *rules])
        wrong.findings += [f for f in plan.errors if f not in self.errors]
        buffers = {
            entry.path
            for entry in self.tree.entries
            if not isinstance(entry.value, nn.Parameter)
        }
        left = _uncovered(plan)
        self.buffers = sorted(left & buffers)
        left -= buffers | self.left
        if wrong.findings or left:
            messages = '; '.join(found.message for found in wrong.findings)
            raise LookError(
                'no rules could be found for '
                f'{", ".join(sorted(left)) or messages}'
            )


def _uncovered(plan: InitPlan) -> Set[str]:
    return {
        name
        for finding in plan.findings
        if finding.code == 'uncovered'
        for name in finding.names
    }
