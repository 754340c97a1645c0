"""The new parts of a model, and what their own code starts them with."""

import pytest
import torch
import torch.nn as nn
from toy import ToyModel, same, snapshot

from mmpartinit.functions import origins_of
from mmpartinit.model.blocks import outermost_new, own_starts
from mmpartinit.model.tree import ModelTree
from mmpartinit.model.whole import WholeModel


def test_the_outermost_new_modules_are_meant():
    tree = ModelTree(ToyModel())
    new = {p for p in tree.index if '.se.' in p or p.startswith('head.')}
    assert [node.path for node in outermost_new(tree, new)] == [
        *(f'backbone.layer{i}.{j}.se' for i in (1, 2) for j in (0, 1)),
        'head',
    ]


# --- own starts


class Scale(nn.Module):
    """A factor, as mmcv has it."""

    def __init__(self, value=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(value))


class LayerNorm2d(nn.Module):
    """A norm of nobody's library, without a way to start anew."""

    def __init__(self, value=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), value))
        self.bias = nn.Parameter(torch.zeros(4))


class ZeroLinear(nn.Linear):
    """Says by itself that it starts at zero."""

    def reset_parameters(self):
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class BlockOfItsOwn(nn.Module):
    """A block whose constructor calls a method of that name."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(4, 2), nn.Linear(2, 4)
        self.alpha = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.alpha)


def started(module, **values):
    """A module of which some parameters hold one value."""
    for name, value in values.items():
        nn.init.constant_(module.get_parameter(name.replace('_', '.')), value)
    return module


def attention():
    module = nn.MultiheadAttention(4, 2)
    nn.init.zeros_(module.out_proj.weight)
    return module


@pytest.mark.parametrize(
    'make, own',
    [
        (lambda: nn.Linear(4, 4), {}),
        (lambda: started(nn.Linear(4, 4), bias=4), dict(bias=4)),
        (
            lambda: started(nn.Conv2d(4, 4, 3), weight=0, bias=0),
            dict(weight=0, bias=0),
        ),
        # What a class starts with is nobody's choice.
        (lambda: nn.BatchNorm2d(4), {}),
        (lambda: nn.LayerNorm(4), {}),
        (lambda: nn.PReLU(), {}),
        (lambda: nn.MultiheadAttention(4, 2), {}),
        (lambda: nn.LSTM(4, 4), {}),
        (LayerNorm2d, {}),
        # Other values than those are.
        (lambda: started(nn.BatchNorm2d(4), weight=0), dict(weight=0)),
        (lambda: nn.PReLU(init=0.5), dict(weight=0.5)),
        (attention, {'out_proj.weight': 0}),
        (lambda: LayerNorm2d(0.0), dict(weight=0)),
        # And all that a class of the user's has.
        (Scale, dict(scale=1)),
        (lambda: Scale(1e-6), dict(scale=1e-6)),
        (lambda: ZeroLinear(4, 4), dict(weight=0, bias=0)),
        (BlockOfItsOwn, {'up.weight': 0, 'alpha': 0}),
        (
            lambda: nn.ParameterList([nn.Parameter(torch.zeros(2, 2))]),
            {'0': 0},
        ),
        (
            lambda: started(nn.Linear(4, 4), weight=0.1).double(),
            dict(weight=0.1),
        ),
        (lambda: nn.LayerNorm(4).half(), {}),
    ],
)
def test_own_starts_are_constants_other_than_the_class_has(make, own):
    def build():
        return nn.ModuleDict(dict(part=make()))

    model = build()
    before, state = snapshot(model), torch.get_rng_state()
    whole = WholeModel(model)
    origins = origins_of(whole, build, {})
    found = own_starts(whole.tree, origins)
    assert found == {
        f'part.{name}': pytest.approx(value) for name, value in own.items()
    }
    assert list(found) == [
        e.path for e in whole.tree.entries if e.path in found
    ]
    # It was asked of copies.
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert same(value, before[name]), name


def test_own_starts_are_of_new_parameters_that_were_looked_at():
    def build():
        torch.manual_seed(3) if seeds else None
        model = nn.ModuleDict(dict(a=Scale(), b=Scale(), c=nn.Linear(2, 2)))
        model['c'].register_buffer('table', torch.zeros(4))
        return model

    seeds = False
    whole = WholeModel(build())
    origins = origins_of(whole, build, {})
    origins.add(whole.tree, ['a.scale'])
    assert own_starts(whole.tree, origins) == {'b.scale': 1}
    assert own_starts(whole.tree, origins, ['a.scale', 'c.weight']) == {}
    seeds = True  # which tells nothing of what was drawn
    for how in (build, 'none is made'):
        origins = origins_of(whole, how, {})
        assert own_starts(whole.tree, origins) == {}


@pytest.mark.filterwarnings('ignore:.*weight_norm')
def test_a_weight_that_is_computed_is_not_written():
    """What holds it is an attribute, which a copy of the layer has too."""
    norm = nn.utils.weight_norm

    def build():
        layer = norm(nn.Linear(4, 4))
        nn.init.zeros_(layer.bias)
        return nn.ModuleDict(dict(part=layer))

    model = build()
    before = model['part'].weight.clone()
    whole = WholeModel(model)
    origins = origins_of(whole, build, {})
    assert own_starts(whole.tree, origins) == {'part.bias': 0}
    assert same(model['part'].weight, before)


def test_what_is_not_there_yet_hinders_nothing():
    class Part(Scale):
        def __init__(self):
            super().__init__()
            self.later = nn.UninitializedParameter()

    def build():
        return nn.ModuleDict(dict(part=Part()))

    whole = WholeModel(build())
    origins = origins_of(whole, build, {})
    assert own_starts(whole.tree, origins) == {'part.scale': 1}
