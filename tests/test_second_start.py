"""The second start in a Runner: training notices nothing of it. And the last
look, before the first iteration.
"""

import copy
import gc
import json
import logging
import random
import sys
import warnings
import weakref

import numpy as np
import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner._flexible_runner import FlexibleRunner
from toy import (
    SE_ZERO,
    ToyData,
    ToyModel,
    build_runner,
    find,
    pretrained,
    report_of,
    runner_cfg,
    same,
    snapshot,
)

OURS = 'CustomModuleInitHook'


@MODELS.register_module()
class Loud(ToyModel):
    """Loads when it is built, draws from every generator, trains with chance,
    changes its config, and tells everyone of itself.
    """

    made = []

    def __init__(self, path, part) -> None:
        cfg = dict(type='Uniform', layer='LayerNorm')
        super().__init__(init_cfg=cfg)
        load_checkpoint(self, path, logger='silent')
        # A circle, as in models that rename keys.
        self._register_load_state_dict_pre_hook(self.renamed)
        part.update(seen=random.random() + np.random.rand())
        MessageHub.get_current_instance().update_info('part', part)
        MMLogger.get_current_instance().warning('Loud was built')
        print('Loud is there')
        warnings.warn('Loud warns', stacklevel=1)
        self.made.append(weakref.ref(self))

    def renamed(self, *args) -> None:
        """Called when it is loaded."""

    def forward(self, inputs, labels=None, mode='tensor'):
        inputs = nn.functional.dropout(inputs, 0.3, self.training)
        return super().forward(inputs, labels, mode)


@DATASETS.register_module()
class NoisyData(ToyData):
    """What it gives depends on the state of each worker."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        noise = torch.randn(4) + float(np.random.rand()) + random.random()
        return dict(item, inputs=item['inputs'] + noise)


@HOOKS.register_module()
class Course(Hook):
    """Keeps the losses and the last weights."""

    def __init__(self) -> None:
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        self.losses.append(outputs['loss'].detach().clone())

    def after_train(self, runner) -> None:
        self.last = snapshot(runner.model)


@pytest.fixture
def loud(tmp_path):
    """A model that the second start has something to do with."""
    pretrained(tmp_path / 'weights.pth')
    Loud.made.clear()
    return dict(
        type='Loud',
        path=str(tmp_path / 'weights.pth'),
        part=dict(a=1),
    )


# A rule that names what is loaded writes nothing.
IDLE = dict(path='head', init_cfg=dict(type='Constant', val=0.0))
EMA = dict(type='EMAHook', momentum=0.5)
FIRST = 'Name of parameter - Initialization information'


def course(work_dir, kind, model, hooks, workers=0):
    """A training: its runner, and the hook that kept the course of it."""
    cfg = runner_cfg(
        work_dir,
        model=copy.deepcopy(model),
        custom_hooks=[*copy.deepcopy(hooks), dict(type='Course')],
    )
    cfg['train_dataloader'].update(
        num_workers=workers,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(type='NoisyData'),
    )
    if kind is FlexibleRunner:
        cfg['strategy'] = dict(type='SingleDeviceStrategy')
    runner = kind.from_cfg(Config(cfg))
    runner.train()
    return runner, find(runner, Course)


@pytest.mark.parametrize(
    'kind, others, workers',
    [
        (Runner, [], 0),
        (Runner, [EMA], 2),
        (FlexibleRunner, [], 2),
        (FlexibleRunner, [EMA], 0),
    ],
)
def test_training_is_what_it_is_without(work_dir, loud, kind, others, workers):
    """Losses and weights, bit for bit, where no rule writes."""
    ours = dict(type=OURS, modules=[IDLE])
    _, alone = course(work_dir / 'a', kind, loud, others, workers)
    runner, course_ = course(
        work_dir / 'b', kind, loud, [ours, *others], workers
    )
    report = report_of(runner)
    assert report.known_by.startswith('recorded loads and a second start')
    assert not any(rule.wrote for rule in report.rules)
    assert len(course_.losses) == 4
    for mine, theirs in zip(course_.losses, alone.losses):
        assert same(mine, theirs)
    for name, value in alone.last.items():
        assert same(course_.last[name], value), name


def test_it_is_quiet(work_dir, loud, capfd):
    """Nothing of it is in the log, or on the screen; one line tells of it."""
    cfg = dict(model=loud, custom_hooks=[dict(type=OURS, modules=[SE_ZERO])])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always')
        build_runner(work_dir, **cfg).train()
    assert len(Loud.made) == 2
    (path,) = work_dir.rglob('*.log')
    text = path.read_text()
    assert text.count(FIRST) == text.count('Loud was built') == 1
    assert text.count('Known by recorded loads and a second start (') == 1
    told = capfd.readouterr()
    assert (told.out + told.err).count('Loud is there') == 1
    assert sum('Loud warns' in str(found.message) for found in warned) == 1


def test_its_model_is_gone_before_training(work_dir, loud):
    alive = []

    @HOOKS.register_module(force=True)
    class Alive(Hook):
        def before_train_epoch(self, runner):
            alive.append([ref() is runner.model for ref in Loud.made if ref()])

    hooks = [dict(type=OURS, modules=[SE_ZERO]), dict(type='Alive')]
    runner = build_runner(work_dir, model=loud, custom_hooks=hooks)
    gc.disable()  # nor by chance
    try:
        runner.train()
    finally:
        gc.enable()
    assert len(Loud.made) == 2
    assert alive[0] == [True]


def test_it_leaves_everything_as_it_was(work_dir, loud):
    states = []

    @HOOKS.register_module(force=True)
    class State(Hook):
        def before_train(self, runner):
            logger, hub = runner.logger, MessageHub.get_current_instance()
            levels = [handler.level for handler in logger.handlers]
            states.append(
                dict(
                    cfg=copy.deepcopy(runner.cfg.to_dict()),
                    config=runner.cfg.pretty_text,
                    handlers=[*map(id, logger.handlers)],
                    levels=(levels, logger.level, logging.root.level),
                    disabled=logging.root.manager.disable,
                    loggers=[*MMLogger._instance_dict],
                    hub=copy.deepcopy(dict(hub.runtime_info)),
                    python=random.getstate(),
                    numpy=np.random.get_state()[1].tolist(),
                    torch=torch.get_rng_state().tolist(),
                    seed=torch.initial_seed(),
                    scope=runner.default_scope.scope_name,
                    output=(sys.stdout, sys.stderr, torch.load),
                    filters=list(warnings.filters),
                )
            )

    state = dict(type='State', priority='VERY_HIGH')
    hooks = [state, dict(type=OURS, modules=[SE_ZERO]), state]
    runner = build_runner(work_dir, model=loud, custom_hooks=hooks)
    before = runner.cfg.pretty_text
    runner.train()
    assert len(Loud.made) == 2
    assert runner.cfg.pretty_text == before
    for key, value in states[0].items():
        assert states[1][key] == value, key


# --- where there is none


@MODELS.register_module()
class OnlyOnce(ToyModel):
    """Cannot be built again."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        OnlyOnce.made += 1
        if OnlyOnce.made > 1:
            raise MemoryError('only once\nand no more')


@MODELS.register_module()
class Seeding(ToyModel):
    """Wants the same start every time, by a seed in its constructor."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        super().__init__()


def known_by(runner):
    runner.train()
    kept, _, why = report_of(runner).known_by.partition(': ')
    assert kept == 'recorded loads only'
    assert f'Known by {kept}: {why[:20]}' in report_of(runner).text()
    return why


def test_it_can_be_switched_off(work_dir, loud):
    off = dict(type=OURS, modules=[], second_start=False)
    hooks = [dict(type=OURS, modules=[SE_ZERO]), off]
    runner = build_runner(work_dir, model=loud, custom_hooks=hooks)
    assert known_by(runner) == 'second_start=False'
    assert len(Loud.made) == 1
    loaded = torch.load(loud['path'], weights_only=False)['state_dict']
    assert report_of(runner).origins()['file'] == len(loaded)


def test_a_model_given_as_an_object(work_dir):
    runner = Runner(**runner_cfg(work_dir, model=ToyModel()))
    assert known_by(runner) == 'the Runner was given no config of its model'


def test_a_model_that_cannot_be_built_again_trains(work_dir):
    OnlyOnce.made = 0
    runner = build_runner(work_dir, model=dict(type='OnlyOnce'))
    why = 'the model cannot be built again (MemoryError: only once)'
    assert known_by(runner) == why
    assert runner.iter == 4


def test_a_model_that_seeds_itself_is_told(work_dir):
    rules = [SE_ZERO, dict(path='head', init_cfg=dict(type='Constant', val=1))]
    runner = build_runner(
        work_dir,
        model=dict(type='Seeding'),
        custom_hooks=[dict(type=OURS, modules=rules)],
    )
    why = "the model's code seeds the random numbers itself"
    assert known_by(runner) == why
    (found,) = [
        f for f in report_of(runner).findings if f.code == 'seeds-itself'
    ]
    assert found.level == 'warning'
    # Or everything would look put in.
    assert set(report_of(runner).rules[1].wrote) == {
        'head.weight',
        'head.bias',
    }


# --- the last look


@HOOKS.register_module()
class CopiesOver(Hook):
    """As mmdet's MeanTeacherHook copies a student over its teacher."""

    def before_train(self, runner):
        student, teacher = runner.model.backbone.layer1
        teacher.load_state_dict(student.state_dict())


@HOOKS.register_module()
class Freezes(Hook):
    def before_train_epoch(self, runner):
        runner.model.backbone.layer2.requires_grad_(False)


def draw(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)


RULES = [
    dict(
        path='backbone.**.se',
        init_cfg=dict(type='Apply', fn='test_second_start.draw'),
    ),
]


@pytest.mark.parametrize('wishes', [(True,), (False, True), (False,)])
@pytest.mark.parametrize(
    'hook, code, part',
    [
        ('CopiesOver', 'changed-since', 'layer1.1'),
        ('Freezes', 'frozen', 'layer2'),
    ],
)
def test_what_others_do_afterwards_is_said(work_dir, hook, code, part, wishes):
    """And the report is brought to what is so, also where one of several
    hooks wants it in a file.
    """
    ours = [
        dict(type=OURS, modules=[] if i else RULES, report=wish)
        for i, wish in enumerate(wishes)
    ]
    runner = build_runner(work_dir, custom_hooks=[*ours, dict(type=hook)])
    runner.train()
    report = report_of(runner)
    (found,) = [f for f in report.findings if f.code == code]
    assert found.level == 'warning'
    assert set(found.names) == {
        name
        for name, value in runner.model.named_parameters()
        if f'{part}.' in name and '.se.' in name
    }
    origins = {t.name: t.origin for t in report.tensors}
    for name in found.names:
        assert origins[name] == ('rule' if code == 'frozen' else 'code')
    assert origins['backbone.layer1.0.se.fc1.weight'] == 'rule'
    (log,) = work_dir.rglob('*.log')
    assert f'[{code}] {found.message}' in log.read_text()
    written = [*work_dir.rglob('init_report.json')]
    assert len(written) == any(wishes)
    for path in written:
        assert json.loads(path.read_text()) == report.to_dict()


@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
def test_nothing_is_said_where_nothing_happens(work_dir, kind):
    hooks = [dict(type=OURS, modules=RULES), EMA]
    runner, _ = course(work_dir, kind, dict(type='ToyModel'), hooks)
    codes = {finding.code for finding in report_of(runner).findings}
    assert not codes & {'changed-since', 'frozen', 'not-optimized'}
