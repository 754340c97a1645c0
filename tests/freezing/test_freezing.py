"""What is frozen stays as the checkpoint had it, in real runs of a Runner."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from stacks import since_mmengine
from torch import nn
from toy import (
    ToyModel,
    find,
    hooks,
    pretrained,
    report_of,
    runner_cfg,
    same,
    snapshot,
)

from mmpartinit import CustomModuleInitHook, RuleError

SE = dict(
    path='backbone.**.se',
    init_cfg=dict(type='Normal', layer=['Linear', 'LayerNorm'], std=0.1),
)
REST = [
    dict(path='backbone.gamma', init_cfg=dict(type='Constant', val=0.9)),
    dict(path='neck.adapter', init_cfg=dict(type='InitWeights')),
]
NEW = [SE, *REST]
# Decays, so that it moves all that has a gradient, be it 0.
ADAMW = dict(optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1))


@HOOKS.register_module()
class Modes(Hook):
    """Keeps the start, and the modes that the modules train in."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.start = snapshot(runner.model)
        self.modes = set()

    def after_train_iter(self, runner, batch_idx, **kwargs):
        modules = runner.model.named_modules()
        self.modes |= {(name, module.training) for name, module in modules}

    def of(self, name):
        return [mode for other, mode in self.modes if other == name]


@HOOKS.register_module()
class LeavesGradients(Hook):
    """As a backward pass before the training may."""

    priority = 'HIGHEST'

    def before_train(self, runner):
        for parameter in runner.model.parameters():
            parameter.grad = torch.ones_like(parameter)


@MODELS.register_module()
class Dropping(ToyModel):
    """Has modules without parameters, inside of old parts and beside new."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.backbone.stem.drop = nn.Dropout()
        self.backbone.drop = nn.Dropout()


@MODELS.register_module()
class Copies(ToyModel):
    """Has a head that its code fills, by a formula."""

    def init_weights(self):
        super().init_weights()
        with torch.no_grad():
            self.head.weight.copy_(torch.arange(24.0).view(3, 8) / 24)
            self.head.bias.copy_(torch.arange(3.0))


@pytest.fixture
def weights(tmp_path):
    """A checkpoint of the model without new modules: its path and values."""
    path = tmp_path / 'weights.pth'
    return str(path), pretrained(path, shift=0.1)


def build(folder, weights, kind=Runner, epochs=10, **changes):
    """A Runner of two iterations an epoch, with validation in between."""
    ours = hooks(*changes.pop('rules', NEW), **changes.pop('keys', {}))
    more = [dict(type='Modes'), *changes.pop('hooks', [])]
    cfg = dict(
        custom_hooks=ours + more,
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=4),
        optim_wrapper=ADAMW,
        load_from=weights and weights[0],
    )
    cfg.update(changes)
    return kind.from_cfg(Config(runner_cfg(folder, **cfg)))


def train(folder, weights, freeze='loaded', **changes):
    keys = dict(changes.pop('keys', {}), freeze=freeze)
    runner = build(folder, weights, keys=keys, **changes)
    runner.train()
    return runner


def assert_only_new_moved(runner, state):
    """What the checkpoint had is there, bit for bit; the rest has moved."""
    start, now = find(runner, Modes).start, runner.model.state_dict()
    for name, value in state.items():
        assert same(now[name], value), name
    for name in now.keys() - state.keys():
        assert not torch.equal(start[name], now[name]), name
    assert runner.iter == 20


def error_of(*args, **changes):
    with pytest.raises(RuleError) as info:
        train(*args, **changes)
    assert [f.code for f in info.value.findings] == ['freeze']
    return str(info.value)


def found(report, code):
    return [f for f in report.findings if f.code == code]


# --- what was loaded


@pytest.mark.parametrize(
    'kind',
    [Runner, pytest.param(FlexibleRunner, marks=since_mmengine('0.10.2'))],
)
def test_only_what_is_new_trains(work_dir, weights, kind):
    left = [dict(type='LeavesGradients')]
    model = dict(type='Dropping')
    runner = train(work_dir, weights, kind=kind, hooks=left, model=model)
    assert_only_new_moved(runner, weights[1])
    modes = find(runner, Modes)
    for name in ('stem', 'stem.drop', 'layer1.0.bn', 'layer2.1.linear'):
        assert modes.of(f'backbone.{name}') == [False], name
    for name in ('', 'backbone', 'backbone.drop', 'backbone.layer1.0.se.norm'):
        assert modes.of(name) == [True], name
    assert not found(report_of(runner), 'frozen')


def test_iteration_based(work_dir, weights):
    """That loop calls `train()` before each iteration."""
    loader = runner_cfg(work_dir)['train_dataloader']
    loader['sampler'] = dict(type='InfiniteSampler')
    runner = train(
        work_dir,
        weights,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=20),
        train_dataloader=loader,
        log_processor=dict(by_epoch=False),
    )
    assert_only_new_moved(runner, weights[1])
    assert find(runner, Modes).of('backbone.layer1.0.bn') == [False]


def test_without_the_key_everything_trains(work_dir, weights):
    """What the tests above would see."""
    runner = train(work_dir, weights, freeze=None, epochs=1)
    now = runner.model.state_dict()
    for name, value in weights[1].items():
        assert not torch.equal(now[name], value), name


def test_what_is_said_to_be_loaded(work_dir, weights):
    model, keys = dict(type='Copies'), dict(loaded='head')
    runner = train(work_dir, None, model=model, keys=keys)
    start, now = find(runner, Modes).start, runner.model.state_dict()
    assert same(start['head.weight'], now['head.weight'])
    assert same(start['head.bias'], torch.arange(3.0))
    assert not same(start['backbone.stem.weight'], now['backbone.stem.weight'])


def test_what_code_put_in_trains_and_is_listed(work_dir, weights, tmp_path):
    state = {k: v for k, v in weights[1].items() if 'head' not in k}
    torch.save(dict(state_dict=state), weights[0])
    model = dict(type='Copies')
    runner = train(work_dir, weights, model=model, epochs=1)
    (warning,) = found(report_of(runner), 'not-frozen')
    assert warning.names == ['head.weight', 'head.bias']
    assert warning.level == 'warning'
    (entry,) = eval(warning.message.rpartition('loaded=')[2])
    assert entry == 'head'
    assert not same(runner.model.head.bias, torch.arange(3.0))
    again = train(
        tmp_path / 'again', weights, model=model, keys=dict(loaded=entry)
    )
    assert same(again.model.head.bias, torch.arange(3.0))
    assert not found(report_of(again), 'not-frozen')


def test_what_a_rule_wrote_over_a_file_trains(work_dir, weights):
    head = dict(path='head', init_cfg=dict(type='Constant', val=0.5))
    rules = [*NEW, dict(head, overwrite=True)]
    runner = train(work_dir, weights, rules=rules)
    assert not runner.model.head.weight.eq(0.5).any()
    assert same(
        runner.model.backbone.stem.weight, weights[1]['backbone.stem.weight']
    )


# --- paths


def test_paths_and_several_hooks(work_dir, weights):
    """What any of them names; new modules in there are frozen and told."""
    more = [
        dict(type='CustomModuleInitHook', modules=[], freeze='head.weight'),
        dict(type='CustomModuleInitHook', modules=[]),
    ]
    runner = train(
        work_dir, weights, freeze=['backbone.layer1'], rules=[SE], hooks=more
    )
    start, now = find(runner, Modes).start, runner.model.state_dict()
    for name, value in now.items():
        still = name.startswith('backbone.layer1') or name == 'head.weight'
        assert torch.equal(start[name], value) is still, name
    modes = find(runner, Modes)
    assert modes.of('backbone.layer1') == modes.of('backbone.layer1.1.bn')
    assert modes.of('backbone.layer1') == [False]
    assert modes.of('backbone.layer2.0.bn') == modes.of('head') == [True]
    (warning,) = found(report_of(runner), 'frozen')
    assert len(warning.names) == 12
    assert all('layer1' in n and '.se.' in n for n in warning.names)


def test_what_is_frozen_as_drawn_is_told(work_dir, weights):
    runner = train(work_dir, weights, freeze='neck', rules=[SE], epochs=1)
    (warning,) = found(report_of(runner), 'frozen-new')
    assert warning.names == [
        f'neck.adapter.{name}.{key}'
        for name in ('down', 'up')
        for key in ('weight', 'bias')
    ]


def test_loaded_and_paths(work_dir, weights):
    freeze = ['loaded', 'neck.adapter.down']
    runner = train(work_dir, weights, freeze=freeze)
    start, now = find(runner, Modes).start, runner.model.state_dict()
    for name, value in now.items():
        still = name in weights[1] or 'adapter.down' in name
        assert torch.equal(start[name], value) is still, name


# --- errors


def test_nothing_that_was_loaded(work_dir):
    text = error_of(work_dir, None)
    assert 'no tensor is from a file' in text and '`loaded`' in text


def test_nothing_left_to_train(work_dir, weights):
    assert 'nothing is left to train' in error_of(work_dir, weights, '**')


def test_nothing_in_there(work_dir, weights):
    model = dict(type='Dropping')
    text = error_of(work_dir, weights, 'backbone.drop', model=model)
    assert 'no parameters in backbone.drop' in text


def test_a_path_that_matches_nothing(work_dir, weights):
    with pytest.raises(RuleError) as info:
        train(work_dir, weights, ['head', 'stem', 'nek'])
    text = str(info.value)
    assert [f.code for f in info.value.findings] == ['path-not-found'] * 2
    assert "`freeze`: no module and no parameter matches 'stem'" in text
    assert 'backbone.stem' in text and "'nek'" in text


# --- activation checkpointing


def test_new_parts_behind_frozen_ones_learn_when_checkpointed(
    work_dir, weights
):
    """MMEngine's key, which is reentrant."""
    modules = ['backbone.layer1', 'backbone.layer2.0.se', 'neck.adapter']
    runner = train(work_dir, weights, activation_checkpointing=modules)
    assert_only_new_moved(runner, weights[1])
    start, now = find(runner, Modes).start, runner.model.state_dict()
    for name in ('backbone.layer1.0.se.fc2.bias', 'neck.adapter.up.bias'):
        assert not same(start[name], now[name]), name


# --- resuming


@pytest.mark.parametrize('how', ['resume=True', 'resume()'])
def test_a_resumed_run_goes_on_as_it_would_have(
    work_dir, weights, tmp_path, how
):
    straight = train(work_dir, weights)
    train(tmp_path / 'first', weights, epochs=5)
    file = str(tmp_path / 'first' / 'epoch_5.pth')
    resumed = dict(resume=True) if how == 'resume=True' else {}
    keys = dict(freeze='loaded')
    runner = build(
        tmp_path / how,
        [file] if resumed else None,
        keys=keys,
        **resumed,
    )
    if not resumed:
        runner.resume(file)
    runner.train()
    assert report_of(runner) is None
    assert_same(runner, straight)
    assert find(runner, Modes).of('backbone.layer1.0.bn') == [False]
    # Of a run that was resumed, another one can be.
    again = build(
        tmp_path / 'again',
        [str(tmp_path / how / 'epoch_10.pth')],
        keys=keys,
        resume=True,
        epochs=11,
    )
    again.train()
    for name, value in weights[1].items():
        assert same(again.model.state_dict()[name], value), name


def assert_same(runner, other):
    there = other.model.state_dict()
    for name, value in runner.model.state_dict().items():
        assert same(value, there[name]), name


def test_resuming_where_nothing_says_what_was_loaded(
    work_dir, weights, tmp_path
):
    train(work_dir, weights, freeze='head', epochs=1)
    file = [str(work_dir / 'epoch_1.pth')]
    folder = tmp_path / 'loaded'
    text = error_of(folder, file, resume=True)
    assert 'does not say what was loaded when its run began' in text
    assert not list(folder.rglob('epoch_*.pth'))


def test_paths_are_asked_anew_at_a_resume(work_dir, weights, tmp_path):
    train(work_dir, weights, epochs=5)
    file = str(work_dir / 'epoch_5.pth')
    freeze = ['backbone.layer1', 'head.weight']
    runner = train(tmp_path / 'on', [file], freeze, resume=True)
    start, now = find(runner, Modes).start, runner.model.state_dict()
    for name, value in now.items():
        still = name.startswith(tuple(freeze))
        assert torch.equal(start[name], value) is still, name


# --- what trains, in the report


def test_the_report_says_what_trains(work_dir, weights):
    runner = train(work_dir, weights, epochs=1)
    report = report_of(runner)
    counted = {True: 0, False: 0, None: 0}
    for tensor in report.tensors:
        counted[tensor.trains] += 1
        is_weight = tensor.name in dict(runner.model.named_parameters())
        assert (tensor.trains is None) is not is_weight
        if is_weight:
            assert tensor.trains is (tensor.origin == 'rule')
    assert counted == {True: 29, False: 20, None: 12}
    text = '29 of 49 tensors, 418 of 837 parameters'
    assert report.training == text
    (path,) = work_dir.rglob('init_report.json')
    data = json.loads(path.read_text())
    assert data['training'] == text
    (log,) = work_dir.rglob('*.log')
    assert f'Trains: {text}\n' in log.read_text()


def test_a_learning_rate_of_0_is_a_warning(work_dir, weights):
    custom = {'backbone': dict(lr_mult=0.0)}
    still = dict(ADAMW, paramwise_cfg=dict(custom_keys=custom))
    runner = build(work_dir, weights, optim_wrapper=still, epochs=1)
    runner.train()
    report = report_of(runner)
    (warning,) = found(report, 'not-optimized')
    assert len(warning.names) == 25
    assert all(name.startswith('backbone') for name in warning.names)
    assert 'learning rate is 0' in warning.message
    trains = {t.name for t in report.tensors if t.trains}
    assert trains == {
        name
        for name, _ in runner.model.named_parameters()
        if not name.startswith('backbone')
    }


def test_a_schedule_that_starts_at_0_trains(work_dir, weights):
    runner = build(work_dir, weights, epochs=1)
    runner.param_schedulers = [
        dict(type='PolyLR', eta_min=0.0, by_epoch=False, end=4),
        dict(type='ConstantLR', factor=0.0, by_epoch=False, end=1),
    ]
    runner.train()
    report = report_of(runner)
    assert not found(report, 'not-optimized')
    assert report.training.startswith('49 of 49 tensors')


def test_what_is_frozen_later_is_in_the_file(work_dir, weights):
    @HOOKS.register_module(force=True)
    class FreezesHead(Hook):
        priority = 'LOWEST'

        def before_train_epoch(self, runner):
            runner.model.head.requires_grad_(False)

    more = [dict(type='FreezesHead')]
    train(work_dir, weights, freeze=None, epochs=1, hooks=more)
    (path,) = work_dir.rglob('init_report.json')
    data = json.loads(path.read_text())
    still = [t['name'] for t in data['tensors'] if t['trains'] is False]
    assert still == ['head.weight', 'head.bias']
    assert data['training'].startswith('47 of 49 tensors')


def test_a_hook_knows_its_entries():
    hook = CustomModuleInitHook([], freeze=['loaded', 'a.*', 'loaded'])
    assert hook.freezing.entries == ['loaded', 'a.*']
