"""The hook in the real life of a Runner."""

import pickle
import random
import textwrap

import numpy as np
import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, LOOPS
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from stacks import READS_ITS_OWN_CHECKPOINTS, since_mmengine
from toy import (
    SE_ZERO,
    ToyModel,
    build_runner,
    hooks,
    pretrained,
    report_of,
    runner_cfg,
    same,
    snapshot,
    start_of,
)

from mmpartinit import RuleError, init_modules

SE = 'backbone.layer1.0.se'
NORMAL = dict(
    path='backbone.**.se', init_cfg=dict(type='Normal', layer='Linear')
)


def is_initialised(state):
    return bool(
        state[f'{SE}.fc2.weight'].eq(0).all()
        and state[f'{SE}.fc2.bias'].eq(4).all()
    )


# --- once, and only when training starts


def test_train_starts_from_the_initialised_values(work_dir):
    runner = build_runner(work_dir, custom_hooks=hooks(SE_ZERO))
    runner.train()
    assert is_initialised(start_of(runner))
    assert not is_initialised(runner.model.state_dict())  # it trained


def test_pretrained_weights_come_first(work_dir, tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(SE_ZERO),
        load_from=str(tmp_path / 'weights.pth'),
    )
    runner.train()
    start = start_of(runner)
    assert is_initialised(start)
    for name, value in state.items():
        assert same(start[name], value), name


def test_test_and_val_initialise_nothing(work_dir):
    runner = build_runner(work_dir, custom_hooks=hooks(SE_ZERO))
    before = snapshot(runner.model)
    runner.val()
    runner.test()
    assert report_of(runner) is None
    for name, value in before.items():
        assert same(runner.model.state_dict()[name], value), name


def test_testing_needs_no_file_that_only_training_needs(work_dir):
    cfg = dict(type='Pretrained', checkpoint='elsewhere.pth')
    rule = dict(path='backbone', init_cfg=cfg)
    build_runner(work_dir, custom_hooks=hooks(rule)).test()


def test_a_resumed_run_keeps_its_weights(work_dir):
    build_runner(work_dir, custom_hooks=hooks(SE_ZERO)).train()
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(SE_ZERO),
        resume=True,
        train_cfg=dict(by_epoch=True, max_epochs=3),
    )
    runner.train()
    trained = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
    for name, value in trained['state_dict'].items():
        assert same(start_of(runner)[name], value), name
    assert report_of(runner) is None
    assert runner.iter == 6


def test_a_run_resumed_after_one_iteration_keeps_its_weights(work_dir):
    cfg = dict(
        custom_hooks=hooks(SE_ZERO),
        log_processor=dict(by_epoch=False),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)
        ),
    )
    loop = dict(by_epoch=False, max_iters=1)
    build_runner(work_dir, train_cfg=loop, **cfg).train()
    loop = dict(loop, max_iters=2)
    runner = build_runner(work_dir, train_cfg=loop, resume=True, **cfg)
    runner.train()
    trained = torch.load(work_dir / 'iter_1.pth', weights_only=False)
    assert not is_initialised(trained['state_dict'])
    for name, value in trained['state_dict'].items():
        assert same(start_of(runner)[name], value), name
    assert report_of(runner) is None
    assert runner.iter == 2


def test_resuming_with_what_torch_does_by_default(work_dir, monkeypatch):
    """mmengine 0.10 cannot with torch 2.6 and later; its fork can."""
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', raising=False)
    build_runner(work_dir, custom_hooks=hooks(SE_ZERO)).train()
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(SE_ZERO),
        resume=True,
        train_cfg=dict(by_epoch=True, max_epochs=3),
    )
    if READS_ITS_OWN_CHECKPOINTS:
        runner.train()
        assert runner.iter == 6 and report_of(runner) is None
    else:
        with pytest.raises(pickle.UnpicklingError, match='weights_only'):
            runner.train()


def test_resume_without_a_checkpoint_is_a_fresh_start(work_dir):
    runner = build_runner(work_dir, custom_hooks=hooks(SE_ZERO), resume=True)
    runner.train()
    assert is_initialised(start_of(runner))


@LOOPS.register_module()
class CountsAnew(IterBasedTrainLoop):
    """Its iteration is not the one that the Runner resumes."""

    @property
    def iter(self):
        return self._iter - getattr(self, 'first', self._iter)

    def run(self):
        self.first = self._iter
        return super().run()


@LOOPS.register_module()
class StartsAnew(IterBasedTrainLoop):
    """Forgets the one that the Runner resumes."""

    def run(self):
        self._iter = 0
        return super().run()


def by_iteration(work_dir, max_iters, kind='IterBasedTrainLoop', **others):
    """A Runner with a train loop that may be another than MMEngine's."""
    return build_runner(
        work_dir,
        custom_hooks=hooks(SE_ZERO),
        train_cfg=dict(type=kind, max_iters=max_iters, val_interval=100),
        log_processor=dict(by_epoch=False),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)
        ),
        **others,
    )


@pytest.mark.parametrize(
    'kind, how',
    [
        ('CountsAnew', 'resume=True'),
        ('CountsAnew', 'load_from'),
        ('CountsAnew', 'resume()'),
        # After `resume()`, nothing tells this loop's from a fresh start.
        ('StartsAnew', 'resume=True'),
        ('StartsAnew', 'load_from'),
    ],
)
def test_a_loop_that_counts_otherwise_is_resumed_all_the_same(
    work_dir, kind, how
):
    by_iteration(work_dir, 1).train()
    file = str(work_dir / 'iter_1.pth')
    trained = torch.load(file, weights_only=False)['state_dict']
    assert not is_initialised(trained)
    others = {
        'resume=True': dict(resume=True),
        'load_from': dict(resume=True, load_from=file),
        'resume()': {},
    }[how]
    runner = by_iteration(work_dir, 2, kind, **others)
    if how == 'resume()':
        runner.resume(file)
    runner.train()
    for name, value in trained.items():
        assert same(start_of(runner)[name], value), name
    assert report_of(runner) is None


@pytest.mark.parametrize('kind', ['IterBasedTrainLoop', 'CountsAnew'])
def test_resuming_from_before_the_first_iteration_is_a_fresh_start(
    work_dir, kind
):
    by_iteration(work_dir, 1).train()
    file = work_dir / 'iter_1.pth'
    checkpoint = torch.load(file, weights_only=False)
    checkpoint['meta'].update(epoch=0, iter=0)
    torch.save(checkpoint, file)
    runner = by_iteration(work_dir, 2, kind, resume=True)
    runner.train()
    assert report_of(runner) is not None
    for name, value in checkpoint['state_dict'].items():
        if '.se.' not in name:
            assert same(start_of(runner)[name], value), name


@pytest.mark.parametrize('kind', ['IterBasedTrainLoop', 'CountsAnew'])
def test_resuming_where_there_is_nothing_is_a_fresh_start(work_dir, kind):
    runner = by_iteration(work_dir, 2, kind, resume=True)
    runner.train()
    assert is_initialised(start_of(runner))


def test_a_second_train_goes_on_with_the_weights_of_the_first(work_dir):
    runner = build_runner(work_dir, custom_hooks=hooks(SE_ZERO))
    runner.train()
    report = report_of(runner)
    runner.train_loop._epoch = runner.train_loop._iter = 0
    trained = snapshot(runner.model)
    runner.train()
    assert report_of(runner) is report
    for name, value in trained.items():
        assert same(start_of(runner)[name], value), name


ZERO = dict(type='Constant', val=0)


def test_training_after_val_in_the_same_runner(work_dir, tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(NORMAL, dict(path='head', init_cfg=ZERO)),
        load_from=str(tmp_path / 'weights.pth'),
    )
    runner.val()
    runner.train()
    assert same(start_of(runner)['head.weight'], state['head.weight'])
    assert len(report_of(runner).rules[0].wrote) == 16


def test_iteration_based_training(work_dir):
    runner = build_runner(
        work_dir,
        custom_hooks=hooks(SE_ZERO),
        train_cfg=dict(by_epoch=False, max_iters=2),
        log_processor=dict(by_epoch=False),
        default_hooks=dict(checkpoint=None),
    )
    runner.train()
    assert is_initialised(start_of(runner))


@since_mmengine('0.10.2')  # before, it stops at load_from
def test_flexible_runner(work_dir, tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    everything = dict(
        path='**',
        init_cfg=dict(type='Normal', layer=['Linear', 'BatchNorm1d']),
    )
    cfg = runner_cfg(
        work_dir,
        custom_hooks=hooks(everything, SE_ZERO),
        load_from=str(tmp_path / 'weights.pth'),
    )
    runner = FlexibleRunner.from_cfg(Config(cfg))
    runner.train()
    assert is_initialised(start_of(runner))
    for name, value in state.items():
        assert same(start_of(runner)[name], value), name


# --- seeds


@pytest.mark.parametrize('seed', [None, 7])
def test_the_seed_is_the_runners_unless_given(work_dir, seed):
    runner = build_runner(work_dir, custom_hooks=hooks(NORMAL, seed=seed))
    runner.train()
    model = ToyModel()
    init_modules(model, [NORMAL], seed=3 if seed is None else 7)
    for name, value in model.state_dict().items():
        if '.se.fc' in name:
            assert same(start_of(runner)[name], value), name
    assert report_of(runner).seed == (3 if seed is None else 7)


def test_the_hook_leaves_the_random_state_as_it_was(work_dir):
    states = []

    @HOOKS.register_module(force=True)
    class RandomState(Hook):
        def before_train(self, runner):
            numpy_state = np.random.get_state()[1].tolist()
            states.append((random.getstate(), numpy_state))
            states[-1] += (torch.get_rng_state().tolist(),)

    around = [
        dict(type='RandomState', priority=priority) for priority in (9, 11)
    ]
    build_runner(work_dir, custom_hooks=[*hooks(NORMAL), *around]).train()
    assert states[0] == states[1]


# --- errors


def test_a_path_without_a_match_stops_before_the_first_iteration(work_dir):
    rule = dict(path='se', init_cfg=dict(type='Constant', val=0))
    runner = build_runner(work_dir, custom_hooks=hooks(rule))
    before = snapshot(runner.model)
    with pytest.raises(RuleError, match=SE):
        runner.train()
    assert runner.iter == 0
    for name, value in runner.model.state_dict().items():
        assert same(value, before[name]), name


# --- configs


def run_config(path, work_dir):
    cfg = Config.fromfile(str(path))
    base = runner_cfg(work_dir)
    cfg.merge_from_dict({k: v for k, v in base.items() if k not in cfg})
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def gate_init(module):
    if isinstance(module, nn.Linear):
        nn.init.constant_(module.weight, 0.25)


def test_a_classic_config(work_dir, tmp_path):
    path = tmp_path / 'classic.py'
    path.write_text(
        textwrap.dedent("""
        custom_imports = dict(
            imports=['mmpartinit', 'test_hook'], allow_failed_imports=False)
        custom_hooks = [
            dict(
                type='CustomModuleInitHook',
                modules=[
                    dict(path='backbone.layer{1,2}.*.se',
                         init_cfg=[
                             dict(type='TruncNormal', layer='Linear', std=.02),
                             dict(type='Constant', layer='LayerNorm', val=.5)
                         ]),
                    dict(path='backbone.**.se.fc2',
                         init_cfg=dict(type='Constant', val=0., bias=4.)),
                    dict(path=['backbone.gamma', 'head.bias'],
                         init_cfg=dict(type='Constant', val=1e-6)),
                    dict(path='neck.adapter',
                         init_cfg=dict(type='InitWeights')),
                    dict(path='head',
                         init_cfg=dict(type='Apply', fn='test_hook.gate_init'))
                ]),
            dict(type='Witness')
        ]
    """)
    )
    runner = run_config(path, work_dir)
    start = start_of(runner)
    assert is_initialised(start)
    assert start[f'{SE}.norm.weight'].eq(0.5).all()
    assert start[f'{SE}.fc1.weight'].std() < 0.03
    assert start['backbone.gamma'].eq(1e-6).all()
    assert start['head.bias'].eq(1e-6).all()
    assert start['neck.adapter.down.bias'].eq(0.5).all()
    assert start['head.weight'].eq(0.25).all()


def test_a_pure_python_config(work_dir, tmp_path):
    path = tmp_path / 'pure.py'
    path.write_text(
        textwrap.dedent("""
        from mmengine.model import ConstantInit, TruncNormalInit
        from test_hook import gate_init
        from toy import Witness
        from toy import ToyModel

        from mmpartinit import Apply, CustomModuleInitHook, InitWeights

        model = dict(type=ToyModel)
        custom_hooks = [
            dict(
                type=CustomModuleInitHook,
                modules=[
                    dict(path='backbone.**.se.fc1',
                         init_cfg=dict(type=TruncNormalInit, std=.02)),
                    dict(path='backbone.**.se.fc2',
                         init_cfg=dict(type=ConstantInit, val=0., bias=4.)),
                    dict(path='neck.adapter', init_cfg=dict(type=InitWeights)),
                    dict(path='head', init_cfg=dict(type=Apply, fn=gate_init))
                ]),
            dict(type=Witness)
        ]
    """)
    )
    runner = run_config(path, work_dir)
    start = start_of(runner)
    assert is_initialised(start)
    assert start[f'{SE}.fc1.weight'].std() < 0.03
    assert start['neck.adapter.down.bias'].eq(0.5).all()
    assert start['head.weight'].eq(0.25).all()


@pytest.mark.needs_mmdet
def test_under_the_scope_of_mmdet(work_dir):
    runner = build_runner(
        work_dir,
        default_scope='mmdet',
        model=dict(type='ToyModel', _scope_='mmengine'),
        custom_hooks=hooks(
            SE_ZERO,
            dict(path='neck.adapter', init_cfg=dict(type='InitWeights')),
        ),
    )
    runner.train()
    assert is_initialised(start_of(runner))
    assert start_of(runner)['neck.adapter.down.bias'].eq(0.5).all()


def test_ema_averages_start_from_the_initialised_values(work_dir):
    ema = dict(type='EMAHook', momentum=0.5)
    runner = build_runner(work_dir, custom_hooks=[ema, *hooks(SE_ZERO)])
    averages = []

    class AfterFirst(Hook):
        def after_train_iter(self, runner, batch_idx, **kwargs):
            hook = next(h for h in runner.hooks if hasattr(h, 'ema_model'))
            if runner.iter == 0:
                weights = snapshot(runner.model)
                average = hook.ema_model.module.state_dict()
                averages.append((weights, snapshot(hook.ema_model.module)))
                assert average.keys() == weights.keys()

    runner.register_hook(AfterFirst(), priority='LOWEST')
    runner.train()
    ((weights, average),) = averages
    for name, value in weights.items():
        assert same(average[name], value), name


# --- what is loaded


def test_what_no_load_shows_can_be_said_to_be_loaded(work_dir):
    """By one of several hooks, for the rules of all."""
    everything = dict(path='head', init_cfg=dict(type='Constant', val=9.0))
    kind = 'CustomModuleInitHook'
    runner = build_runner(
        work_dir,
        custom_hooks=[
            dict(type=kind, modules=[everything]),
            dict(type=kind, modules=[], loaded=['head.weig*', 'fc']),
            dict(type='Witness'),
        ],
    )
    before = snapshot(runner.model)
    runner.train()
    start = start_of(runner)
    assert same(start['head.weight'], before['head.weight'])
    assert start['head.bias'].eq(0).all()
    (found,) = [f for f in report_of(runner).findings if 'loaded' in f.code]
    assert (found.code, found.names) == ('unknown-loaded', ['fc'])


def test_new_parts_beside_a_whole_model_that_was_loaded_are_named(
    work_dir, tmp_path
):
    """A second branch and a head of another class count are not in it."""
    state = pretrained(tmp_path / 'weights.pth')
    state['head.weight'], state['head.bias'] = torch.ones(5, 8), torch.ones(5)
    torch.save(state, tmp_path / 'other.pth')
    for name, head in (('weights', False), ('other', True)):
        runner = build_runner(
            work_dir / name,
            custom_hooks=hooks(SE_ZERO),
            load_from=str(tmp_path / f'{name}.pth'),
        )
        runner.train()
        (found,) = [
            f for f in report_of(runner).findings if f.code == 'uncovered'
        ]
        assert 'neck.adapter.up.weight' in found.names
        assert ('head.weight' in found.names) is head


def test_a_checkpoint_of_which_nothing_fits_is_a_warning(work_dir, tmp_path):
    state = {f'net.{k}': v for k, v in pretrained(tmp_path / 'w.pth').items()}
    torch.save(state, tmp_path / 'other.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth'))
    runner = build_runner(
        work_dir,
        model=dict(type='ToyModel', init_cfg=init_cfg),
        custom_hooks=hooks(SE_ZERO),
    )
    runner.train()
    (found,) = [
        f for f in report_of(runner).findings if f.code == 'nothing-loaded'
    ]
    assert found.level == 'warning'
    assert f"with prefix='net.' {len(state)} would" in found.message
