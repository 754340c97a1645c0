"""The plan of a config: of all its hooks together, on its model."""

from typing import Any, Dict, List, Optional, Tuple

from ..errors import Collector, Finding, RuleError
from ..freezing.freeze import LOADED, Freezing
from ..functions import not_resumed
from ..hook import CustomModuleInitHook
from ..plan import InitPlan, make_plan
from ..report.report import InitReport
from ..report.training import see_training
from ..rules.rule import Rule, one_seed, read_rules
from .bases import replaced
from .hooks import NOT_ITS_OWN, strange_keys
from .look import Look


def plan_config(seen: Look) -> InitReport:
    """Initialize a config's model as training with it would, to see what that
    comes to; without weights, only plan it.

    Everything that is wrong with the hooks and the rules is in the findings,
    as errors. The rules of several hooks are numbered through.
    """
    wrong = Collector()
    wrong.findings += seen.wrong
    rules, said, freeze = config_rules(seen, wrong)
    plan = make_plan(seen.whole, rules, seen.origins, said, seen.weights)
    plan.findings[:0] = [*wrong.findings, *replaced(seen.cfg)]
    seed = _seed(seen)
    report = _tried(plan, seed or 0) if seen.weights else plan.preview()
    report.seed = seed
    _freeze(seen, Freezing(freeze), report)
    report.findings += _remarks(seen, report.findings)
    if seen.resumes is not None:
        names = seen.resumes.names
        report.findings += not_resumed(seen.whole, rules, names)
    return report


def _tried(plan: InitPlan, seed: int) -> InitReport:
    """What comes of a plan, or what is wrong with that."""
    if not plan.errors:
        try:
            return plan.apply(seed)
        except RuleError as error:
            plan.findings[:0] = error.findings
    return plan.preview()


def _freeze(seen: Look, freezing: Freezing, report: InitReport) -> None:
    """Freeze what training would, as far as it is known without an engine."""
    try:
        freezing.check(seen.whole)
        is_known = seen.weights or LOADED not in freezing.entries
        if is_known and seen.resumes is None:
            freezing.start(seen.whole, report)
            see_training(report, seen.whole.tree)
    except RuleError as error:
        report.findings[:0] = error.findings


def config_rules(
    seen: Look, wrong: Collector
) -> Tuple[List[Rule], List[str], List[str]]:
    """The rules of a config's hooks that can be read, what they say to be
    loaded, and what to be frozen; what is wrong with the hooks and with other
    rules is gathered.
    """
    rules: List[Rule] = []
    first = 0
    hooks: List[CustomModuleInitHook] = []
    for hook in seen.hooks:
        arguments = {k: v for k, v in hook.items() if k not in NOT_ITS_OWN}
        kind, modules = hook['type'], arguments.pop('modules', None)
        if 'modules' in hook:
            rules += read_rules(modules, wrong, first)
        first += len(modules) if isinstance(modules, (list, tuple)) else 0
        with wrong.gather(where='the hook cannot be built'):
            text = strange_keys(kind, hook)
            if not text and 'modules' not in hook:
                text = '`modules`, the list of rules, is missing'
            if text:
                raise RuleError.of('hook', text)
            try:
                hooks.append(kind(modules=[], **arguments))
            except TypeError as error:
                raise RuleError.of('hook', str(error)) from error
    with wrong.gather():
        one_seed(hook.seed for hook in hooks)
    said = [entry for hook in hooks for entry in hook.loaded]
    return rules, said, [e for hook in hooks for e in hook.freezing.entries]


def _seed(seen: Look) -> Optional[int]:
    sources: List[Dict[str, Any]] = [
        *seen.hooks[:1],
        seen.cfg.get('randomness') or {},
    ]
    seeds = [source.get('seed') for source in sources]
    return next((seed for seed in seeds if isinstance(seed, int)), None)


def _remarks(seen: Look, findings: List[Finding]) -> List[Finding]:
    """What to know about the plan as a whole."""
    remarks = []
    if not seen.hooks:
        text = 'the config has no CustomModuleInitHook'
        if any(finding.code == 'uncovered' for finding in findings):
            text += '; `mmpartinit suggest` writes one for what is uncovered'
        remarks.append(('no-hook', text))
    if len(seen.hooks) > 1:
        text = (
            f'the config has {len(seen.hooks)} CustomModuleInitHooks; they '
            'act as one, their rules numbered through'
        )
        remarks.append(('several-hooks', text))
    if not seen.weights:
        text = (
            'nothing was loaded (--no-weights), so that every tensor counts '
            'as new; what a checkpoint supplies will be kept'
        )
        remarks.append(('no-weights', text))
    if seen.cfg.get('resume'):
        text = (
            'the config says `resume`: a run that finds a checkpoint to '
            'resume from will not be initialized'
        )
        if seen.resumes is not None:
            text = (
                f'the run resumes from {seen.resumes.file}, at iteration '
                f'{seen.resumes.iteration}, and will not be initialized; '
                'load_from in place of resume starts anew from it'
            )
        remarks.append(('resume', text))
    return [Finding('note', code, text) for code, text in remarks]
