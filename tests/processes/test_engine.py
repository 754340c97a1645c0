"""The other features of MMEngine's engine, each in a real run."""

import json

import pytest
import torch
from engines import RULES
from mmengine.config import Config
from mmengine.model import BaseModel, convert_sync_batchnorm
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from stacks import since_torch
from torch import nn
from toy import (
    ToyModel,
    build_runner,
    hooks,
    pretrained,
    report_of,
    runner_cfg,
    same,
    start_of,
)

from mmpartinit import RuleError

SGD = dict(type='SGD', lr=0.1)


def run(work_dir, *rules, **changes):
    """Train with the rules; gives the runner."""
    hook = dict(type='CustomModuleInitHook', modules=list(rules or RULES))
    custom_hooks = [hook, dict(type='Witness'), *changes.pop('hooks', ())]
    runner = build_runner(work_dir, custom_hooks=custom_hooks, **changes)
    runner.train()
    return runner


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """What a plain run starts from."""
    return start_of(run(tmp_path_factory.mktemp('plain')))


def assert_starts_alike(runner, plain):
    start = start_of(runner)
    assert list(start) == list(plain)
    for name, value in plain.items():
        assert same(start[name], value), name
    assert report_of(runner).origins()['rule'] > 20
    end = runner.model.state_dict()
    assert not same(end['backbone.stem.weight'], value)  # it trained


def test_gradient_accumulation(work_dir, plain):
    wrapper = dict(optimizer=SGD, accumulative_counts=2)
    assert_starts_alike(run(work_dir, optim_wrapper=wrapper), plain)


def test_activation_checkpointing(work_dir, plain):
    modules = ['backbone.layer1', 'backbone.layer2']
    runner = run(work_dir, activation_checkpointing=modules)
    assert_starts_alike(runner, plain)


def test_iter_based_training(work_dir, plain):
    loop = dict(type='IterBasedTrainLoop', max_iters=3)
    assert_starts_alike(run(work_dir, train_cfg=loop), plain)


@since_torch('2.0')
def test_compiled_training_steps(work_dir, plain):
    runner = run(work_dir, compile=dict(backend='aot_eager'))
    assert_starts_alike(runner, plain)
    assert hasattr(runner.model.train_step, '_torchdynamo_orig_callable')


@since_torch('2.0')
def test_mixed_precision(work_dir, plain, monkeypatch):
    """bfloat16 on the CPU, where MMEngine's wrapper does not want to be."""
    module = AmpOptimWrapper.__init__.__globals__
    monkeypatch.setitem(module, 'is_cuda_available', lambda: True)
    wrapper = dict(type='AmpOptimWrapper', optimizer=SGD, dtype='bfloat16')
    runner = run(work_dir, optim_wrapper=wrapper)
    assert_starts_alike(runner, plain)
    assert runner.optim_wrapper.cast_dtype is torch.bfloat16


@MODELS.register_module()
class Synchronized(ToyModel):
    """Has synchronized norm layers, which MMEngine takes out again where
    there is one process: other modules with the same parameters."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        convert_sync_batchnorm(self)


@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
def test_converted_norm_layers(kind, work_dir, tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')
    )
    rule = dict(path='backbone', init_cfg=dict(type='ResetParameters'))
    model = dict(type='Synchronized', init_cfg=init_cfg)
    cfg = runner_cfg(work_dir, model=model, custom_hooks=hooks(rule))
    runner = kind.from_cfg(Config(cfg))
    runner.train()
    assert type(runner.model.backbone.layer1[0].bn) is not nn.SyncBatchNorm
    for name, value in state.items():
        assert same(start_of(runner)[name], value), name
    wrote = report_of(runner).rules[0].wrote
    assert 'backbone.layer1.0.se.fc1.weight' in wrote


# --- several hooks


FIRST = dict(path='backbone.**.se.fc1', init_cfg=dict(type='Normal', std=1.0))
SECOND = dict(path='neck.adapter.up', init_cfg=dict(type='Normal', std=1.0))


def several(work_dir, first, *others, **settings):
    """Train with a hook for each rule."""
    more = [
        dict(type='CustomModuleInitHook', modules=[rule], **settings)
        for rule in others
    ]
    return run(work_dir, first, hooks=more)


def test_several_hooks_act_as_one(work_dir, tmp_path):
    runner = several(work_dir, FIRST, SECOND, FIRST)
    one = run(tmp_path / 'one', FIRST, SECOND, FIRST)
    for name, value in start_of(one).items():
        assert same(start_of(runner)[name], value), name
    assert report_of(runner).to_dict() == report_of(one).to_dict()
    (path,) = work_dir.rglob('init_report.json')
    assert len(json.loads(path.read_text())['rules']) == 3


def test_several_hooks_do_not_draw_the_same_numbers_twice(work_dir, tmp_path):
    twice = several(work_dir, FIRST, FIRST)
    once = run(tmp_path / 'once', FIRST)
    name = 'backbone.layer1.0.se.fc1.weight'
    assert not same(start_of(twice)[name], start_of(once)[name])


@pytest.mark.parametrize('wishes', [(True, False), (False, True)])
def test_the_report_is_written_if_any_of_several_hooks_wants_it(
    work_dir, wishes
):
    first, second = (
        dict(type='CustomModuleInitHook', modules=[rule], report=wish)
        for rule, wish in zip((FIRST, SECOND), wishes)
    )
    build_runner(work_dir, custom_hooks=[first, second]).train()
    (path,) = work_dir.rglob('init_report.json')
    assert len(json.loads(path.read_text())['rules']) == 2


def test_the_report_is_not_written_if_none_of_several_hooks_wants_it(work_dir):
    both = [
        dict(type='CustomModuleInitHook', modules=[rule], report=False)
        for rule in (FIRST, SECOND)
    ]
    runner = build_runner(work_dir, custom_hooks=both)
    runner.train()
    assert len(report_of(runner).rules) == 2
    assert not list(work_dir.rglob('init_report.*'))


def test_several_hooks_have_one_seed(work_dir):
    with pytest.raises(RuleError, match='same `seed`, not'):
        several(work_dir, FIRST, SECOND, seed=5)


# --- parameters of other kinds


@MODELS.register_module()
class Normed(BaseModel):
    """Has a layer whose weight is computed."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.plain = nn.Linear(4, 4)
        self.odd = norm(nn.Linear(4, 3))

    def forward(self, inputs, labels=None, mode='tensor'):
        scores = self.odd(self.plain(inputs))
        if mode != 'loss':
            return scores
        return dict(loss=nn.functional.cross_entropy(scores, labels))


@since_torch('2.1')
def test_a_computed_weight_ends_the_run(work_dir):
    rule = dict(path='odd', init_cfg=dict(type='Constant', val=1.0))
    with pytest.raises(RuleError, match='odd.weight is computed from other'):
        run(work_dir, rule, model=dict(type='Normed'))
    assert not list(work_dir.rglob('init_report.json'))


@since_torch('2.1')
def test_what_a_weight_is_computed_from_can_be_written(work_dir):
    gain = 'odd.parametrizations.weight.original0'
    rule = dict(path=gain, init_cfg=dict(type='Constant', val=2.0))
    runner = run(work_dir, rule, model=dict(type='Normed'))
    start = start_of(runner)
    assert start[gain].eq(2).all()
    assert not same(runner.model.state_dict()[gain], start[gain])
