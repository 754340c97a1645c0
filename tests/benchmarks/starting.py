"""What the hook adds to the start of a training."""

import copy
import tempfile
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, HOOKS, init_default_scope
from mmengine.runner import Runner
from subjects import RULES, detector, detector_cfg, pretrained
from timing import in_turns, row
from torch.utils.data import Dataset

from mmpartinit.command.look import look
from mmpartinit.command.planning import plan_config
from mmpartinit.functions import origins_of
from mmpartinit.model.whole import WholeModel
from mmpartinit.start import build_again


class StartedError(Exception):
    """The training has started, which is all that is measured."""


@DATASETS.register_module()
class Nothing(Dataset):
    """Images that nobody asks for."""

    metainfo = {}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        raise LookupError('only the start is measured')


@HOOKS.register_module()
class StopAtStart(Hook):
    """Ends a training when it starts."""

    priority = 'LOWEST'

    def before_train(self, runner):
        """After all other hooks."""
        raise StartedError


def start(folder: Path, report: bool):
    """Start a training; the milliseconds of the hook and of the Runner."""
    cfg = detector_cfg().model
    cfg.backbone.init_cfg = None
    runner = Runner(
        model=cfg,
        work_dir=str(folder / 'work'),
        train_dataloader=dict(
            batch_size=2,
            dataset=dict(type='Nothing'),
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        train_cfg=dict(by_epoch=False, max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        load_from=str(folder / 'pretrained.pth'),
        custom_hooks=[
            dict(type='CustomModuleInitHook', modules=RULES, report=report),
            dict(type='StopAtStart'),
        ],
        default_scope='mmdet',
        log_level='ERROR',
        experiment_name=f'start{time.perf_counter_ns()}',
    )
    hook = next(h for h in runner.hooks if hasattr(h, 'rules'))
    spent = dict(hook=0.0, runner=0.0)

    def clocked(owner, name, whose):
        method = getattr(owner, name)

        def call(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent[whose] += 1e3 * (time.perf_counter() - begin)

        setattr(owner, name, call)

    clocked(hook, 'before_run', 'hook')
    clocked(hook, 'before_train', 'hook')
    clocked(runner, '_init_model_weights', 'runner')
    clocked(runner, 'load_or_resume', 'runner')
    try:
        runner.train()
    except StartedError:
        pass
    assert hook.report.origins()['rule'] == 104
    return spent['hook'], spent['runner']


def origins(folder: Path):
    """What the origins cost, beside what a start costs without them: by a
    second start, for a model that is given, and in a plan from the config.
    """
    init_default_scope('mmdet')
    MMLogger.get_instance('quiet', log_level='ERROR')  # for both
    cfg = detector_cfg()
    file = str(folder / 'backbone.pth')
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=file)
    torch.save(pretrained(detector().backbone), file)
    build = build_again(cfg)
    whole = WholeModel(build())

    def told(how):
        assert len(origins_of(whole, how, {}).files) > 300

    hook = dict(type='CustomModuleInitHook', modules=RULES)
    imports = dict(imports=['mmpartinit'], allow_failed_imports=False)
    more = dict(custom_hooks=[hook], custom_imports=imports)
    with_rules = Config(dict(cfg, **more))

    def plan():
        report = plan_config(look(copy.deepcopy(with_rules)))
        assert report.origins()['rule'] == 104

    subjects = (
        ('second start', 'the second start of Mask R-CNN', 1.0, build),
        ('recorded', 'what recorded loads tell of it', 0.05, 'no build='),
    )
    peer = 'its first start: built, initialized, backbone loaded from a file'
    for name, what, limit, how in subjects:
        yield in_turns(
            name, what, peer, limit, lambda how=how: told(how), build, turns=7
        )
    what = '`mmpartinit plan` of it, without imports'
    yield in_turns('plan', what, peer, 2.4, plan, build, turns=7)


def rows(turns: int = 7):
    """Against the Runner's own initialization and loading."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from origins(folder)
        torch.save(pretrained(detector()), folder / 'pretrained.pth')
        for report, limit in ((True, 0.5), (False, None)):
            with_or_without = 'with' if report else 'without'
            spent = [start(folder, report) for _ in range(turns + 1)][1:]
            yield row(
                'start' if report else 'start, no files',
                'the hook when training starts, '
                f'{with_or_without} JSON and figure',
                "the Runner's init_weights() and load_from",
                limit,
                [hook for hook, _ in spent],
                [runner for _, runner in spent],
            )
