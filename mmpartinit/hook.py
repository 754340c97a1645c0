"""The hook: when to plan and apply in a Runner's life.

The only file that knows a Runner. What a rule means is in ``plan.py``.
"""

from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Union

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from .errors import RuleError
from .plan import run_rules
from .report.publish import publish
from .report.report import InitReport
from .rules.rule import (
    checked_loaded,
    checked_seed,
    one_seed,
    parse_rules,
)


@HOOKS.register_module()
class CustomModuleInitHook(Hook):
    """Initialize the newly added modules of a pretrained model.

    Once, when training starts: after ``init_weights()`` and ``load_from``,
    before the first iteration. Tensors that a checkpoint supplied are left
    alone. Not after a resume, not in ``val`` and ``test``. Several of these
    hooks in one config act as one, their rules following each other.

    Args:
        modules (list[dict]): The rules. Keys of a rule: ``path`` (str or list
            of str), ``init_cfg`` (dict or list of dict) or ``copy_from``
            (str), ``overwrite`` (bool, False), ``optional`` (bool, False).
        seed (int, optional): What new values are drawn from, together with
            each module's path. Defaults to None, the runner's seed.
        report (bool): Whether ``init_report.json`` and ``init_report.png`` go
            to the run's log folder, and the figure to the runner's visualizer.
            Defaults to True.
        loaded (str | list[str]): What is loaded without being seen to be:
            names of the state dict, or paths as in rules. Defaults to ().

    Attributes:
        report (InitReport, optional): What was done; None before that.

    Raises:
        RuleError: When built, with everything that is wrong with the rules by
            themselves; when training starts, with what is wrong on the model.

    Examples:
        >>> custom_imports = dict(imports=['mmpartinit'])
        >>> rule = dict(
        ...     path='backbone.layer{3,4}.*.se',
        ...     init_cfg=dict(type='Kaiming', layer='Conv2d'))
        >>> custom_hooks = [dict(type='CustomModuleInitHook', modules=[rule])]
    """

    # Before the hooks that copy the model when training starts, such as
    # mmdet's MeanTeacherHook.
    priority = 'VERY_HIGH'

    def __init__(
        self,
        modules: Sequence[Dict[str, Any]],
        seed: Optional[int] = None,
        report: bool = True,
        loaded: Union[str, Sequence[str]] = (),
    ) -> None:
        if not isinstance(report, bool):
            raise RuleError.of(
                'hook', f'`report` must be True or False, not {report!r}'
            )
        self.rules = parse_rules(modules)
        self.loaded = checked_loaded(loaded)
        self.seed = None if seed is None else checked_seed(seed)
        self.write_report = report
        self.report: Optional[InitReport] = None

    def before_train(self, runner: Any) -> None:
        """Initialize the new modules, once and at a fresh start only."""
        if self.report is not None or runner.iter > 0:
            return
        kind = CustomModuleInitHook
        hooks = [hook for hook in runner.hooks if isinstance(hook, kind)]
        rules = [rule for hook in hooks for rule in hook.rules]
        seed = one_seed(hook.seed for hook in hooks)
        report = run_rules(
            runner.model,
            [replace(rule, index=i) for i, rule in enumerate(rules)],
            runner.seed if seed is None else seed,
            [entry for hook in hooks for entry in hook.loaded],
            optimized=_optimized(runner),
        )
        for hook in hooks:
            hook.report = report
        runner.logger.info(f'Where the weights come from:\n{report}')
        if any(hook.write_report for hook in hooks):
            folder, logger = runner.log_dir, runner.logger
            publish(report, folder, logger, runner.visualizer)


def _optimized(runner: Any) -> List[Tensor]:
    groups = runner.optim_wrapper.param_groups
    # One list of groups, or one for each of several optimizers.
    lists = groups.values() if isinstance(groups, dict) else [groups]
    return [p for groups in lists for g in groups for p in g['params']]
