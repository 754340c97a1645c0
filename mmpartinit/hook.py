"""The hook: when to plan and apply in a Runner's life; what is read from a
Runner is in ``start.py``, what a rule means in ``plan.py``.
"""

from dataclasses import replace
from typing import Any, Dict, Optional, Sequence, Set, Union

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from .freezing.freeze import Freezing
from .functions import not_resumed, run_rules
from .model.second import Files, note_tensors
from .model.whole import WholeModel
from .report.publish import log, publish
from .report.report import InitReport
from .report.since import LastLook
from .report.training import see_training
from .rules import rule as keys
from .start import has_trained, optimized, resumed_names, start_of


@HOOKS.register_module()
class CustomModuleInitHook(Hook):
    """Initialize the newly added modules of a pretrained model.

    Once, when training starts: after ``init_weights()`` and ``load_from``.
    What was loaded or put in is left alone. Not after a resume, not in ``val``
    and ``test``. Several of these hooks act as one, rules in their order.

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
        second_start (bool): Whether the model is built once more, to see what
            was not drawn. Defaults to True.
        freeze (str | list[str], optional): What does not train: ``'loaded'``,
            what a file decided or ``loaded`` names, and paths as in rules.
            Defaults to None.

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

    # Before hooks that copy the model at the start (mmdet's MeanTeacherHook).
    priority = 'VERY_HIGH'

    def __init__(
        self,
        modules: Sequence[Dict[str, Any]],
        seed: Optional[int] = None,
        report: bool = True,
        loaded: Union[str, Sequence[str]] = (),
        second_start: bool = True,
        freeze: Union[None, str, Sequence[str]] = None,
    ) -> None:
        self.write_report = keys.checked_bool('report', report)
        self.second_start = keys.checked_bool('second_start', second_start)
        self.rules = keys.parse_rules(modules)
        self.loaded = keys.checked_loaded(loaded)
        self.freezing = Freezing(keys.checked_freeze(freeze))
        self.seed = None if seed is None else keys.checked_seed(seed)
        self.report: Optional[InitReport] = None
        self._writes = False
        self._resumed: Optional[Set[str]] = None
        self._files: Files = {}
        self._last: Optional[LastLook] = None

    def after_load_checkpoint(self, runner: Any, checkpoint: Any) -> None:
        """Note what ``load_from`` brings, and what is resumed from."""
        if self.report is None:
            note_tensors(self._files, runner._load_from, checkpoint)
            self._resumed = resumed_names(runner, checkpoint)

    def before_train(self, runner: Any) -> None:
        """Initialize the new modules, once and at a fresh start only."""
        if self.report is not None:
            return
        if self._resumed is not None or has_trained(runner):
            whole = WholeModel(runner.model)
            log(not_resumed(whole, self.rules, self._resumed), runner.logger)
            self.freezing.resume(whole, runner.message_hub)
            return
        ours = CustomModuleInitHook
        hooks = [hook for hook in runner.hooks if isinstance(hook, ours)]
        rules = [rule for hook in hooks for rule in hook.rules]
        again = all(hook.second_start for hook in hooks)
        whole, origins = start_of(runner, again, self._files)
        freezing = Freezing(e for h in hooks for e in h.freezing.entries)
        freezing.check(whole)
        report = run_rules(
            whole,
            origins,
            [replace(rule, index=i) for i, rule in enumerate(rules)],
            keys.one_seed((hook.seed for hook in hooks), runner.seed),
            [entry for hook in hooks for entry in hook.loaded],
            optimized(runner),
        )
        freezing.start(whole, report, runner.message_hub)
        see_training(report, whole.tree, optimized(runner))
        for hook in hooks:
            hook.report, hook._files = report, {}
        self.freezing = freezing
        self._last = LastLook(runner.model, report)
        runner.logger.info(f'Where the weights come from:\n{report}')
        self._writes = any(hook.write_report for hook in hooks)
        if self._writes:
            publish(report, runner.log_dir, runner.logger, runner.visualizer)

    def before_train_iter(self, runner: Any, *args: Any, **kw: Any) -> None:
        """Hold what is frozen; at first, look once more at what is written."""
        self.freezing.hold()
        last, self._last = self._last, None
        news = last.correct(optimized(runner)) if last else []
        log(news, runner.logger)
        if last and last.has_changed and self._writes:
            publish(last.report, runner.log_dir, runner.logger)
