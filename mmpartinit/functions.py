"""The functions for other trainers, and what the hook does in their way."""

import gc
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

import torch.nn as nn
from torch import Tensor

from .errors import Collector, Finding, RuleError
from .model.deciding import find_origins
from .model.loading import Recorded, recorded
from .model.origins import Origins
from .model.second import Build, Files, SecondStart, second_start
from .model.whole import WholeModel
from .plan import InitPlan, make_plan
from .processes.ranks import on_all_ranks, share
from .report.report import InitReport
from .rules.matching import match_rules
from .rules.rule import Rule, checked_loaded, checked_seed, parse_rules


def plan_init(
    model: nn.Module,
    modules: Sequence[Dict[str, Any]],
    *,
    loaded: Union[str, Collection[str]] = (),
    build: Optional[Build] = None,
) -> InitPlan:
    """Work out what the rules would write to a model, without writing.

    Args:
        model (nn.Module): The model, wrapped or not.
        modules (list[dict]): The rules, as the hook's ``modules``.
        loaded (str | Collection[str]): What a checkpoint supplied, as in
            :func:`init_modules`. Defaults to none.
        build (Callable, optional): Makes the model once more, as in
            :func:`init_modules`. Defaults to None.

    Returns:
        InitPlan: What each rule would write and keep.

    Raises:
        RuleError: With everything that is wrong with the rules, by themselves
            or on this model; if ``build`` fails or tells nothing.
    """
    rules, said = parse_rules(modules), checked_loaded(loaded)
    whole = WholeModel(model)
    plan = make_plan(whole, rules, _by_functions(whole, build), said)
    plan.check()
    return plan


def init_modules(
    model: nn.Module,
    modules: Sequence[Dict[str, Any]],
    *,
    loaded: Union[str, Collection[str]] = (),
    build: Optional[Build] = None,
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
        build (Callable, optional): A function without arguments that makes
            the model once more, as it is before training; nothing is called
            on what it returns. What comes out the same with another seed is
            left alone as well. Defaults to None.
        seed (int): Seed of the run. Defaults to 0.

    Returns:
        InitReport: What was done, tensor by tensor.

    Raises:
        RuleError: If the rules are wrong, by themselves or on this model, or
            ``build`` fails or tells nothing; before anything is written where
            it can be known before.

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        >>> report = init_modules(
        ...     model, [dict(path='1', init_cfg=dict(type='Xavier'))], seed=7)
        >>> report.origins()
        {'file': 0, 'code': 0, 'rule': 2, 'built': 2}
    """
    with on_all_ranks():
        rules, said = parse_rules(modules), checked_loaded(loaded)
        seed = checked_seed(seed)
        whole = WholeModel(model)
    return run_rules(whole, _by_functions(whole, build), rules, seed, said)


def _by_functions(whole: WholeModel, build: Optional[Build]) -> Origins:
    if build is None:
        return Origins()
    origins = origins_of(whole, build, {}, Recorded())
    if not origins.looked:
        why = origins.known_by.partition(': ')[2]
        raise RuleError.of(
            'build',
            f'`build` tells nothing: {why}; name in `loaded` what was loaded, '
            'in place of it',
        )
    return origins


def origins_of(
    whole: WholeModel,
    build: Union[Build, str],
    files: Files,
    known: Optional[Recorded] = None,
) -> Origins:
    """What decided the values of a model: by what was recorded, and by a
    second start or, in place of that, why there is none.
    """
    known = recorded(whole.tree) if known is None else known
    if isinstance(build, str):
        return find_origins(whole, known, build, files)
    second = second_start(build, whole.tree)
    origins = find_origins(whole, known, second, files)
    parts = second.parts if isinstance(second, SecondStart) else None
    del second
    # Models that refer to themselves, by a hook of their own, would stay in
    # memory while the training goes on.
    if parts is None or any(part() is not None for part in parts):
        gc.collect()
    return origins


def run_rules(
    whole: WholeModel,
    origins: Origins,
    rules: Sequence[Rule],
    seed: int,
    said: Collection[str],
    optimized: Optional[Iterable[Union[Tensor, Dict[str, Any]]]] = None,
) -> InitReport:
    """Plan and apply, on all ranks together: rank 0's origins count, what is
    said to be loaded, and its seed.
    """
    origins, said, seed = share((origins, said, seed))
    with on_all_ranks():
        plan = make_plan(whole, rules, origins, said)
        plan.check()
    return plan.apply(seed, optimized)


def not_resumed(
    whole: WholeModel, rules: Sequence[Rule], names: Optional[Collection[str]]
) -> List[Finding]:
    """What rules name and a checkpoint that a run resumes from lacks: no rule
    writes it, since the run goes on.

    Args:
        whole (WholeModel): The model.
        rules (Sequence[Rule]): The rules.
        names (Collection[str], optional): Names in the checkpoint; None
            where they are not known.
    """
    if names is None:
        return []
    known = {name.replace('module.', '', 1) for name in names}.union(names)
    findings: Dict[Rule, Finding] = {}
    for match in match_rules(whole.tree, rules, (), Collector()):
        missing = [
            entry.path
            for entry in match.new
            if entry.path not in known and not entry.is_counter
        ]
        if missing:
            text = (
                ' is for tensors that the checkpoint to resume from lacks: '
                'they keep the values that they were built with, and its '
                'optimizer does not know them; start anew with load_from in '
                'place of resume'
            )
            found = match.rule.finding('warning', 'not-resumed', text)
            findings.setdefault(match.rule, found).names.extend(missing)
    return list(findings.values())
