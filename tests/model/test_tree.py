"""The tree of a model: what is in it, and the wrappers that are not."""

import pytest
import torch
import torch.nn as nn
from stacks import since_torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    checkpoint_wrapper,
)
from toy import ToyModel, same

from mmpartinit import RuleError, init_modules, plan_init
from mmpartinit.model.tree import ModelTree

ZERO = dict(type='Constant', val=0)


def test_entries_are_the_state_dict():
    model = ToyModel()
    tree = ModelTree(model)
    assert [entry.path for entry in tree.entries] == list(model.state_dict())
    under = tree.index['backbone.layer1.0.bn'].tensors()
    assert [entry.key for entry in under] == [
        'weight',
        'bias',
        'running_mean',
        'running_var',
        'num_batches_tracked',
    ]


@pytest.mark.parametrize(
    'wrap',
    [
        nn.DataParallel,
        checkpoint_wrapper,
        pytest.param('torch.compile', marks=since_torch('2.0')),
    ],
    ids=['DataParallel', 'activation checkpointing', 'torch.compile'],
)
def test_wrappers_never_show(wrap):
    wrap = torch.compile if wrap == 'torch.compile' else wrap
    plain, wrapped = ToyModel(), ToyModel()
    wrapped.backbone.layer1[0] = wrap(wrapped.backbone.layer1[0])
    wrapped = wrap(wrapped)
    rule = dict(path='**.se', init_cfg=ZERO)
    expected, found = (plan_init(m, [rule]) for m in (plain, wrapped))
    assert [m.path for m in found.matches] == [
        m.path for m in expected.matches
    ]
    names = [tensor.name for tensor in found.preview().tensors]
    assert names == list(plain.state_dict())


@pytest.mark.parametrize('wrap', [nn.DataParallel, checkpoint_wrapper])
def test_wrappers_inside_of_a_match_change_no_values(wrap):
    """They hand out what they wrap, which would be drawn twice."""
    plain, wrapped = [
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2)
    ]
    wrapped[0] = wrapper = wrap(wrapped[0])
    rule = dict(path='**', init_cfg=dict(type='Normal', std=1.0))
    init_modules(plain, [rule])
    init_modules(wrapped, [rule])
    assert wrapped[0] is wrapper
    for value, expected in zip(wrapped.parameters(), plain.parameters()):
        assert same(value, expected)


@pytest.mark.parametrize(
    'name',
    ['_orig_mod', '_checkpoint_wrapped_module', '_fsdp_wrapped_module'],
)
def test_a_module_with_more_than_what_it_wraps_is_no_wrapper(name):
    """Whatever it calls its children, as a wrapper of a user's own may."""
    model = nn.Sequential(nn.Module())
    model[0].add_module(name, nn.Linear(2, 2))
    model[0].add_module('adapter', nn.Linear(2, 2))
    tree = ModelTree(model)
    assert [entry.path for entry in tree.entries] == list(model.state_dict())
    rule = dict(path=f'0.{name}', init_cfg=dict(type='Constant', val=7.0))
    init_modules(model, [rule])
    assert model[0]._modules[name].weight.eq(7).all()
    assert model[0].adapter.weight.ne(7).all()


@pytest.mark.parametrize('kind', ['parameter', 'buffer'])
@pytest.mark.parametrize(
    'name',
    ['_orig_mod', '_checkpoint_wrapped_module', '_fsdp_wrapped_module'],
)
def test_nor_is_one_with_tensors_of_its_own(name, kind):
    model = nn.Sequential(nn.Module())
    model[0].add_module(name, nn.Linear(2, 2))
    if kind == 'parameter':
        model[0].gain = nn.Parameter(torch.zeros(2))
    else:
        model[0].register_buffer('gain', torch.zeros(2))
    tree = ModelTree(model)
    assert [entry.path for entry in tree.entries] == list(model.state_dict())
    rule = dict(path='0', init_cfg=dict(type='Apply', fn=fill))
    report = init_modules(model, [rule])
    assert [tensor.name for tensor in report.tensors] == list(
        model.state_dict()
    )
    assert '0.gain' in report.rules[0].wrote
    assert all(tensor.eq(3).all() for tensor in model.state_dict().values())


def fill(module):
    for tensor in module.state_dict().values():
        tensor.fill_(3)


@since_torch('2.0')
def test_a_compiled_module_is_stepped_through():
    model = nn.Sequential(nn.Linear(2, 2))
    model[0] = torch.compile(model[0])
    assert list(model[0]._modules) == ['_orig_mod']
    rule = dict(path='0.weight', init_cfg=dict(type='Constant', val=3.0))
    report = init_modules(torch.compile(model), [rule])
    assert [t.name for t in report.tensors] == ['0.weight', '0.bias']
    assert model[0].weight.eq(3).all()


@pytest.mark.parametrize('wrap', [nn.DataParallel, checkpoint_wrapper])
def test_wrappers_are_there_again_after_an_error(wrap):
    def fail(module):
        seen.append(module)
        raise OSError('disk full')

    linear, seen = nn.Linear(2, 2), []
    model = nn.Sequential(nn.Sequential(wrap(linear)))
    wrapper = model[0][0]
    rule = dict(path='0', init_cfg=dict(type='Apply', fn=fail))
    with pytest.raises(RuleError, match='disk full'):
        init_modules(model, [rule])
    assert seen == [linear]
    assert model[0][0] is wrapper is not linear
