"""New parts that no rule covers, and those whose own code starts them."""

import pytest
import torch
import torch.nn as nn
from mmengine.runner.checkpoint import load_state_dict

from mmpartinit import plan_init
from mmpartinit.functions import origins_of
from mmpartinit.model.whole import WholeModel
from mmpartinit.plan import make_plan
from mmpartinit.rules.rule import parse_rules


def zeroed(layer, *names):
    """A layer of which some parameters, or all, start at zero."""
    for name, value in layer.named_parameters():
        if name in names or not names:
            nn.init.zeros_(value)
    return layer


class Branch(nn.Module):
    """What is added to features; its last layer may start at zero."""

    def __init__(self, up=None, inner=True, **bare):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.down, self.up = nn.Linear(4, 2), up or nn.Linear(2, 4)
        grid = nn.Module() if inner else self
        grid.register_buffer('grid', torch.arange(4.0))
        self.inner = grid if inner else None
        for name, value in bare.items():
            setattr(self, name, nn.Parameter(value))


class Adapter(nn.Module):
    """Two matrices and no layers, the second of which starts at zero."""

    def __init__(self):
        super().__init__()
        self.down = nn.Parameter(torch.randn(4, 2))
        self.up = nn.Parameter(torch.zeros(2, 4))


def as_mmcv(conv):
    """As ConvModule has it: a drawn weight, a bias of zero."""
    return zeroed(conv, 'bias')


def model_of(part):
    """A backbone with a new part, its layer `old` loaded."""
    model = nn.ModuleDict(dict(backbone=nn.ModuleDict(dict(part=part))))
    model['backbone']['old'] = nn.Linear(4, 4)
    torch.manual_seed(torch.initial_seed())
    load_state_dict(model, STATE, logger='silent')
    return model


STATE = {
    'backbone.old.weight': torch.linspace(0, 1, 16).view(4, 4),
    'backbone.old.bias': torch.linspace(1, 2, 4),
}


def uncovered(make, rules=(), second=True, **state):
    """Names, within the part, of what is said to be uncovered."""

    def build():
        model = model_of(make())
        found = {f'backbone.part.{k}': v for k, v in state.items()}
        load_state_dict(model, found, logger='silent')
        return model

    whole = WholeModel(build())
    origins = origins_of(whole, build if second else 'none is made', {})
    plan = make_plan(whole, parse_rules(list(rules)), origins)
    plan.check()
    found = [f for f in plan.findings if f.code == 'uncovered']
    names = [name for finding in found for name in finding.names]
    assert all(name.startswith('backbone.part') for name in names)
    return [name[len('backbone.part.') :] for name in names]


STARTS = {
    'last layer': lambda: Branch(zeroed(nn.Linear(2, 4))),
    'its weight': lambda: Branch(zeroed(nn.Linear(2, 4), 'weight')),
    'last norm': lambda: Branch(zeroed(nn.BatchNorm1d(4), 'weight')),
    'factor': lambda: Branch(gamma=torch.full((4,), 1e-6)),
    'factor beside a formula': lambda: Branch(
        inner=False, gamma=torch.full((4,), 1e-6)
    ),
    'matrices': Adapter,
    'layer': lambda: zeroed(nn.Conv2d(4, 4, 1)),
    'layer without bias': lambda: zeroed(nn.Linear(4, 4, bias=False)),
    'norm': lambda: zeroed(nn.LayerNorm(4)),
    'parameter': lambda: nn.ParameterList([nn.Parameter(torch.ones(4))]),
}


@pytest.mark.parametrize('make', STARTS.values(), ids=list(STARTS))
def test_a_part_whose_code_says_how_it_starts_is_not_uncovered(make):
    assert uncovered(make) == []
    # One look at the values is enough.
    assert uncovered(make, second=False) == []


@pytest.mark.parametrize('make', STARTS.values(), ids=list(STARTS))
def test_its_start_is_that_of_each_place_where_it_is(make):
    """As the towers of RTMDet-Ins are, which are both of its branches."""

    def twice():
        part = make()
        return nn.ModuleDict(dict(one=part, two=part))

    assert uncovered(twice) == []


class Affine(nn.Module):
    """One of the user's, under names of his own."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(4))
        self.beta = nn.Parameter(torch.zeros(4))


class Window(nn.Module):
    """An attention with a table that is added, as Swin has it."""

    def __init__(self):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.qkv = nn.Linear(4, 12)


UNSAID = {
    'drawn': Branch,
    'attention': lambda: nn.MultiheadAttention(4, 2),
    'a bias of zero': lambda: Branch(as_mmcv(nn.Linear(2, 4))),
    'a layer with it': lambda: as_mmcv(nn.Conv2d(4, 4, 1)),
    'a weight beside a drawn bias': lambda: zeroed(nn.Linear(4, 4), 'weight'),
    'norm': lambda: nn.BatchNorm2d(4),
    'table': Window,
    'temperature': lambda: Branch(temperature=torch.ones(2, 1, 1)),
    'factor of 1': lambda: Branch(nn.Sequential(nn.Linear(2, 4), Affine())),
    'embedding': lambda: Branch(pos_embed=torch.zeros(1, 4, 4)),
    'token': lambda: Branch(cls_token=torch.zeros(1, 1, 4)),
}


@pytest.mark.parametrize('make', UNSAID.values(), ids=list(UNSAID))
def test_all_of_a_part_that_says_nothing_is_uncovered(make):
    new = [name for name, _ in make().named_parameters()]
    assert set(uncovered(make)).issuperset(new)


def test_in_a_part_that_was_loaded_each_layer_is_its_own():
    """A head whose init_weights() starts fc3 at zero, and leaves fc2."""

    def make():
        layers = {f'fc{i}': nn.Linear(4, 4) for i in (1, 2, 3)}
        zeroed(layers['fc3'])
        return nn.ModuleDict(layers)

    state = {'fc1.weight': torch.randn(4, 4), 'fc1.bias': torch.randn(4)}
    assert uncovered(make, **state) == ['fc2.weight', 'fc2.bias']
    # A bias that the file lacks, too.
    del state['fc1.bias']
    found = uncovered(make, **state)
    assert found == ['fc1.bias', 'fc2.weight', 'fc2.bias']


def test_what_a_rule_writes_says_nothing_any_more():
    up = dict(path='backbone.part.up', init_cfg=dict(type='Normal', std=1))
    rest = ['norm.weight', 'norm.bias', 'down.weight', 'down.bias']
    assert uncovered(STARTS['last layer'], [up]) == rest
    down = dict(up, path='backbone.part.down')
    assert uncovered(STARTS['last layer'], [down]) == []


def test_what_a_file_has_in_another_shape_is_not_as_it_should_be():
    found = uncovered(STARTS['factor'], gamma=torch.ones(9))
    assert 'gamma' in found and 'down.weight' in found
    found = uncovered(STARTS['factor'], **{'down.weight': torch.ones(9, 9)})
    assert 'gamma' in found and 'down.weight' in found


def test_what_was_written_over_is_no_choice():
    def build():
        model = model_of(nn.Linear(4, 4))
        part = {
            f'backbone.part.{k}': torch.randn(v.shape)
            for k, v in model['backbone']['part'].state_dict().items()
        }
        load_state_dict(model, part, logger='silent')
        zeroed(model['backbone']['part'])
        return model

    whole = WholeModel(build())
    plan = make_plan(whole, [], origins_of(whole, build, {}))
    codes = {f.code: f.names for f in plan.findings}
    assert codes['lost'] == codes['uncovered']
    assert len(codes['lost']) == 2


def test_what_would_fit_under_another_name_is_still_found():
    """Blocks with factors, of which a file has other names."""

    def build():
        model = nn.ModuleDict(dict(backbone=nn.Module()))
        for i in range(3):
            part = STARTS['factor']()
            setattr(model['backbone'], f'block{i}', part)
        load_state_dict(model, file, logger='silent')
        return model

    file = {}
    for name in ['block0', 'block1', 'stage2']:
        for key, value in STARTS['factor']().state_dict().items():
            file[f'backbone.{name}.{key}'] = torch.randn(value.shape)
    whole = WholeModel(build())
    plan = make_plan(whole, [], origins_of(whole, build, {}))
    codes = {f.code: f.names for f in plan.findings}
    assert set(codes['renamed']) <= set(codes['uncovered'])


def test_where_nothing_was_looked_at_all_is_uncovered():
    model = model_of(STARTS['last layer']())
    plan = plan_init(model, [], loaded='backbone.old')
    (found,) = [f for f in plan.findings if f.code == 'uncovered']
    assert 'backbone.part.up.weight' in found.names
