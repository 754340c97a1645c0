"""Tensors of a file that went nowhere, and would fit under other names."""

import re

import pytest
import torch
import torch.nn as nn
from mmengine.model import initialize
from mmengine.runner import load_checkpoint
from test_origins import planned, told
from toy import build_runner, hooks, pretrained, report_of, start_of

from mmpartinit import init_modules


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.attn, self.proj = nn.Linear(4, 4), nn.Linear(4, 4)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))


class Net(nn.Module):
    def __init__(self, *more):
        super().__init__()
        for name in ('backbone', *more):
            stages = [nn.Sequential(Block(), Block()) for _ in range(2)]
            part = nn.ModuleDict(dict(stages=nn.ModuleList(stages)))
            part['stem'] = nn.Linear(4, 4)
            self.add_module(name, part)
        self.neck, self.head = nn.Linear(4, 6), nn.Linear(6, 3)


def a_file(tmp_path, rename, *more):
    """A file of the network's under names of its own, and its tensors under
    those of the network.
    """
    state = {
        key: torch.rand_like(value) if value.dim() else value + 7
        for key, value in Net().state_dict().items()
    }
    file = {rename(name): value for name, value in state.items()}
    file.update(dict.fromkeys(more, torch.ones(9)))
    torch.save(dict(state_dict=file), tmp_path / 'w.pth')
    return str(tmp_path / 'w.pth'), state


def found_in(make):
    """The finding, for a network that is made as a start makes it."""
    findings = told(planned(make(), (), make), 'renamed')
    assert len(findings) < 2
    return findings[0] if findings else None


def instead(pattern, replacement):
    return lambda name: re.sub(pattern, replacement, name)


@pytest.mark.parametrize(
    'rename, path, others',
    [
        (instead('^backbone', 'encoder'), 'backbone', dict(prefix='encoder')),
        (
            instead('^backbone', 'model.encoder_q'),
            'backbone',
            dict(prefix='model.encoder_q'),
        ),
        (instead(r'^backbone\.', ''), 'backbone', {}),
        (
            lambda name: 'module.' + name.replace('backbone', 'encoder'),
            'backbone',
            dict(prefix='module.encoder'),
        ),
        (
            instead('^backbone.', 'enc_'),
            'backbone',
            dict(revise_keys=[('^enc_', '')]),
        ),
        (
            instead('norm', 'bn'),
            'backbone.stages',
            dict(prefix='backbone.stages', revise_keys=[('bn', 'norm')]),
        ),
        (
            instead(r'\.stages\.', '.layers.'),
            'backbone',
            dict(prefix='backbone', revise_keys=[('layers', 'stages')]),
        ),
    ],
)
def test_names_that_leave_no_doubt_have_a_rule_to_paste(
    tmp_path, rename, path, others
):
    def make():
        model = Net()
        load_checkpoint(model, file, logger='silent')
        return model

    file, state = a_file(tmp_path, rename, 'fc.bias')
    found = found_in(make)
    new = [
        name for name in state if rename(name) not in (name, f'module.{name}')
    ]
    assert sorted(found.names) == sorted(n for n in new if 'num_b' not in n)
    rule = eval(found.message.partition('a rule loads them: ')[2])
    cfg = dict(type='AdaptedPretrained', checkpoint=file, **others)
    assert rule == dict(path=path, init_cfg=cfg)
    assert not told(planned(make(), [rule], make), 'renamed')
    model = make()
    kept = planned(model, (), make).origins.kept
    report = init_modules(model, [rule], loaded=kept)
    assert sorted(report.rules[0].wrote) == sorted(new)
    for name, value in state.items():
        assert torch.equal(model.state_dict()[name], value), name


def test_in_a_runner_the_rule_loads_what_load_from_left(work_dir, tmp_path):
    state = pretrained(tmp_path / 'plain.pth')
    others = {k.replace('backbone', 'encoder'): v for k, v in state.items()}
    file = str(tmp_path / 'w.pth')
    torch.save(dict(state_dict=others), file)
    zero = dict(type='Constant', val=0)
    rules = [dict(path='backbone.**.se.fc2', init_cfg=zero)]
    runner = build_runner(work_dir, custom_hooks=hooks(*rules), load_from=file)
    runner.train()
    (found,) = [f for f in report_of(runner).findings if f.code == 'renamed']
    assert f'tensors of {file} went nowhere' in found.message
    rules.append(eval(found.message.partition('a rule loads them: ')[2]))
    runner = build_runner(work_dir, custom_hooks=hooks(*rules), load_from=file)
    runner.train()
    assert 'renamed' not in [f.code for f in report_of(runner).findings]
    start = start_of(runner)
    for name, value in state.items():
        assert torch.equal(start[name], value), name
    assert start['backbone.layer1.0.se.fc2.weight'].eq(0).all()


def test_the_prefix_of_the_file_is_that_of_the_rule(tmp_path):
    """What was loaded is a part of a file, into a part of the model."""

    def make():
        model = Net()
        part = dict(type='Pretrained', checkpoint=file, prefix='ema.backbone')
        initialize(model.backbone, part)
        return model

    def rename(name):
        return f'ema.{name}'.replace('norm', 'ln')

    file, state = a_file(tmp_path, rename)
    found = found_in(make)
    rule = eval(found.message.partition('a rule loads them: ')[2])
    model = make()
    kept = planned(model, (), make).origins.kept
    init_modules(model, [rule], loaded=kept)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, state[f'backbone.{name}']), name


def swapped(name):
    """Norms by other names, of which each may be either."""
    return name.replace('norm1', 'pre').replace('norm2', 'post')


def shifted(name):
    """Blocks that have other numbers."""
    return re.sub(r'stages\.(\d)', lambda m: f'stages.{int(m[1]) + 2}', name)


def in_order(name):
    """Names that say nothing but the order."""
    number = [*Net().state_dict()].index(name) // 2
    return re.sub('^backbone.*[.]', f'{number}.', name)


@pytest.mark.parametrize(
    'rename, more',
    [
        (swapped, ()),
        (shifted, ()),
        (in_order, ()),
        (instead('attn', 'mix'), ()),  # in one place of a block
        (instead('^neck', 'bridge'), ()),
        (instead('^backbone', 'encoder'), ('depth',)),  # or the other branch
    ],
)
def test_where_it_is_not_certain_both_lists_are_told(tmp_path, rename, more):
    def make():
        model = Net(*more)
        load_checkpoint(model, file, logger='silent')
        return model

    file, state = a_file(tmp_path, rename)
    found = found_in(make)
    assert found.level == 'warning'
    assert 'a rule' not in found.message
    moved = [name for name in state if rename(name) != name]
    first = rename(moved[0])
    assert f'which is which: in the file {first}, ' in found.message
    assert f'; new in the model {moved[0]}, ' in found.message


def test_it_is_not_said_where_nothing_new_is_like_what_is_unused(tmp_path):
    def make():
        model = Net()
        model.extra = nn.Linear(4, 4)
        load_checkpoint(model, file, logger='silent')
        return model

    file, _ = a_file(tmp_path, lambda name: name, 'fc.bias')
    assert planned(make(), (), make).origins.checkpoints[0].unused
    assert found_in(make) is None
