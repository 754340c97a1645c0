"""Starts of new blocks, tried: what is harmless, what stays so, what learns.

Each answer is held against another witness: the same network without the
block, which computes what the pretrained one does.
"""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from mmengine.config import Config

from mmpartinit.model.blocks import outermost_new
from mmpartinit.model.tree import ModelTree
from mmpartinit.trial.learning import learn
from mmpartinit.trial.network import Network
from mmpartinit.trial.trial import Trial

CHANNELS = 8


class SE(nn.Module):
    """A gate; what bounds it is given."""

    def __init__(self, bound=torch.sigmoid, bias=True):
        super().__init__()
        self.fc1 = nn.Conv2d(CHANNELS, 4, 1)
        self.fc2 = nn.Conv2d(4, CHANNELS, 1, bias=bias)
        self.bound = bound

    def forward(self, x):
        gate = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return x * self.bound(gate)


class Branch(nn.Sequential):
    """A convolution and a norm."""

    def __init__(self, *more):
        conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        super().__init__(conv, nn.BatchNorm2d(CHANNELS), *more)


class Adapter(nn.Module):
    """A bottleneck, to be added to its input or added by itself."""

    def __init__(self, adds=True):
        super().__init__()
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.adds = adds

    def forward(self, x):
        y = self.up(F.gelu(self.down(x)))
        return x + y if self.adds else y


class LoRA(nn.Conv2d):
    """A loaded layer with a low-rank update, of bare parameters."""

    def __init__(self):
        super().__init__(CHANNELS, CHANNELS, 1)
        self.lora_a = nn.Parameter(torch.randn(2, CHANNELS) / 3)
        self.lora_b = nn.Parameter(torch.randn(CHANNELS, 2) / 3)

    def forward(self, x):
        change = (self.lora_b @ self.lora_a)[..., None, None]
        return super().forward(x) + F.conv2d(x, change)


class Wrapper(nn.Module):
    """A loaded layer with an update beside it, of layers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.lora_a = nn.Conv2d(CHANNELS, 2, 1, bias=False)
        self.lora_b = nn.Conv2d(2, CHANNELS, 1, bias=False)

    def forward(self, x):
        return self.layer(x) + 0.5 * self.lora_b(self.lora_a(x))


class Stage(nn.Module):
    """A pretrained residual block; how it uses what is new is given."""

    def __init__(self, use, **new):
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.bn = nn.BatchNorm2d(CHANNELS)
        self.use = use
        for name, part in new.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.use(self, x, self.bn(self.conv(x))).relu()


class Net(nn.Module):
    """A network of three such blocks."""

    def __init__(self, use, make):
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, 2, bias=False)
        stages = [Stage(use, **make()) for _ in range(3)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(CHANNELS, 5)

    def forward(self, x):
        x = self.stages(self.stem(x).relu())
        return self.head(x.mean((2, 3)))


def old(stage, x, y):
    """The pretrained network's."""
    return x + y


def residual(stage, x, y):
    """A new branch of the block's output, added to it."""
    z = x + y
    return z + stage.new(z)


def two_parts(stage, x, y):
    """The same in two parts, and scaled."""
    z = x + y
    return z + 0.1 * stage.new(F.relu(stage.old(z)))


def trial_of(use, make, new=('new',), gone=()):
    """A trial of the new parts of a network, by their names."""
    torch.manual_seed(0)
    model = Net(use, make)
    tree = ModelTree(model)
    names = {
        entry.path
        for entry in tree.entries
        if any(f'.{name}.' in f'.{entry.path}.' for name in new)
    }
    nodes = outermost_new(tree, names)
    kept = {entry.path for entry in tree.entries} - names
    return Trial(Network(model, Config()), tree, nodes, kept, set(gone))


def outcome_of(trial):
    outcome = trial.measure(trial.places)
    learn(trial, trial.places, outcome)
    return outcome


def write(trial, path, **values):
    """Give constants to what is called so in each place."""
    for place in trial.places:
        for node in place.nodes:
            whole = f'{node.path}.{path}' if path else node.path
            for entry in trial.tree.entries:
                if entry.path.rpartition('.')[0] == whole:
                    if entry.key in values:
                        entry.value.data.fill_(values[entry.key])


USES = {
    'gate in the way': (
        lambda s, x, y: x + s.new(y),
        lambda: dict(new=SE()),
        'input',
    ),
    'adapter in the way': (
        lambda s, x, y: s.new(x + y),
        lambda: dict(new=Adapter()),
        'input',
    ),
    'convolution in the way': (
        lambda s, x, y: s.new(x + y),
        lambda: dict(new=nn.Conv2d(8, 8, 1)),
        'input',
    ),
    'branch, added to its input': (
        residual,
        lambda: dict(new=Branch()),
        'zero',
    ),
    'branch of two parts, scaled': (
        two_parts,
        lambda: dict(old=nn.Conv2d(8, 2, 1), new=nn.Conv2d(2, 8, 1)),
        'zero',
    ),
    'factor': (
        lambda s, x, y: x + y * s.new(y.mean((2, 3), keepdim=True)),
        lambda: dict(new=nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid())),
        'one',
    ),
    'factor of 1 + it': (
        lambda s, x, y: x + y * (1 + s.new(y)),
        lambda: dict(new=nn.Conv2d(8, 8, 1)),
        'zero',
    ),
    'features added to it times them': (
        lambda s, x, y: x + y + y * s.new(y),
        lambda: dict(new=nn.Conv2d(8, 8, 1)),
        'zero',
    ),
    'gate outside': (
        lambda s, x, y: x + y * s.new(y.mean((2, 3), True)).sigmoid(),
        lambda: dict(new=nn.Conv2d(8, 8, 1)),
        'open',
    ),
    'bare factor': (
        lambda s, x, y: x + y * s.new,
        lambda: dict(new=nn.Parameter(torch.full((8, 1, 1), 0.1))),
        'one',
    ),
    'bare shift': (
        lambda s, x, y: x + y + s.new,
        lambda: dict(new=nn.Parameter(torch.full((8, 1, 1), 0.1))),
        'zero',
    ),
}


@pytest.mark.parametrize('name', USES)
def test_what_is_harmless_follows_from_who_uses_it(name):
    use, make, harmless = USES[name]
    trial = trial_of(use, make, ('new', 'old'))
    assert len(trial.places) == 3
    assert [place.use for place in trial.places] == [harmless] * 3
    # The witness: with what is harmless, the network without the block.
    model = trial.network.model
    clean = trial._clean[False]
    for stage in model.stages:
        stage.use = old
    for path, calls in clean.items():
        found = []
        hook = trial.tree.index[path].value.register_forward_hook(
            lambda m, i, output, found=found: found.append(output)
        )
        with torch.no_grad():
            trial.network.run()
        hook.remove()
        torch.testing.assert_close(found, [tensors[0] for tensors in calls])


@pytest.mark.parametrize('kind', [LoRA, Wrapper])
def test_what_is_added_to_a_loaded_layer(kind):
    trial = trial_of(
        lambda s, x, y: x + s.wrapper(y),
        lambda: dict(wrapper=kind()),
        ('lora_a', 'lora_b'),
    )
    assert outcome_of(trial).drift > 0.01
    for entry in trial.tree.entries:
        if 'lora_b' in entry.path:
            entry.value.data.zero_()
    outcome = outcome_of(trial)
    assert outcome.drift == 0 and outcome.is_neutral
    assert {place.last[0].split('.')[-1] for place in trial.places} == {
        'lora_b'
    }


class Offsets(nn.Module):
    """As a deformable convolution: the layer in it gives offsets to it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(CHANNELS, 2, 1)
        self.up = nn.Parameter(torch.randn(CHANNELS, CHANNELS, 1, 1))

    def forward(self, x):
        return F.conv2d(x, self.up) + self.layer(x).sum(1, keepdim=True)


class Projected(nn.Module):
    """A new layer behind a loaded one of other channels."""

    def __init__(self):
        super().__init__()
        self.layer, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x):
        return self.up(self.layer(x))


@pytest.mark.parametrize('kind', [Offsets, Projected])
def test_a_part_that_gives_other_shapes_than_its_layer_adds_nothing(kind):
    trial = trial_of(
        lambda s, x, y: x + s.bn(s.part(y)),
        lambda: dict(part=kind()),
        ('up',),
    )
    assert [place.use for place in trial.places].count('layer') == 0
    assert trial.modes == [False, True]


class Norm2d(nn.LayerNorm):
    """As mmpretrain's and ConvNeXt's: says otherwise where channels are."""

    def __init__(self):
        super().__init__(CHANNELS)

    def forward(self, x, data_format='channel_first'):
        assert data_format == 'channel_first'
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def test_a_layer_with_a_new_bias_is_none_that_something_was_added_to():
    trial = trial_of(
        lambda s, x, y: x + s.norm(y, data_format='channel_first'),
        lambda: dict(norm=Norm2d()),
        ('norm.bias',),
    )
    assert [place.use for place in trial.places].count('layer') == 0
    assert trial.modes == [False, True]


class Fuse(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x, y):
        return self.a(x) + self.b(y)


def test_what_fuses_features_is_not_judged():
    trial = trial_of(lambda s, x, y: s.new(x, y), lambda: dict(new=Fuse()))
    assert [place.use for place in trial.places] == [''] * 3
    assert all('several features' in place.why for place in trial.places)


@pytest.mark.parametrize('name', ['new.weight', 'conv2.weight'])
def test_what_may_replace_something_pretrained_is_not_judged(name):
    """A square layer of its own place would be harmless as the identity; in
    another's, it would not.
    """
    places = trial_of(
        lambda s, x, y: x + s.new(y),
        lambda: dict(new=nn.Conv2d(8, 8, 1)),
        gone=[f'stages.0.{name}', 'stages.1.conv.more.weight'],
    ).places
    assert [place.use for place in places] == ['', 'input', 'input']
    assert f'stages.0.{name}' in places[0].why


def test_zeros_and_what_is_not_used_are_not_judged():
    trial = trial_of(
        lambda s, x, y: x + y + s.new(0 * x),
        lambda: dict(new=Branch()),
    )
    assert 'nothing but zeros' in trial.places[0].why
    trial = trial_of(lambda s, x, y: x + y, lambda: dict(new=Branch()))
    assert 'nothing that comes out' in trial.places[0].why


@pytest.mark.parametrize(
    'bound, bias, learns',
    [
        (torch.sigmoid, 4.0, True),
        (F.hardsigmoid, 2.9, True),
        (F.hardsigmoid, 4.0, False),
        (torch.tanh, 2.0, True),
    ],
)
def test_an_open_gate_has_to_learn(bound, bias, learns):
    trial = trial_of(lambda s, x, y: x + s.new(y), lambda: dict(new=SE(bound)))
    assert [len(place.gates) for place in trial.places] == [1] * 3
    assert not outcome_of(trial).is_harmless
    write(trial, 'fc2', weight=0.0, bias=bias)
    outcome = outcome_of(trial)
    assert outcome.is_harmless and outcome.allowed == 0.05
    assert outcome.is_neutral == learns
    assert (len(outcome.learning), len(outcome.stuck)) == (
        (12, 0) if learns else (0, 12)
    )


def test_what_is_not_finite_is_not_harmless():
    trial = trial_of(residual, lambda: dict(new=Branch()))
    write(trial, '1', weight=0.0, bias=float('nan'))
    assert not trial.measure(trial.places).is_harmless


def test_other_calls_than_those_without_the_block_are_no_outcome():
    trial = trial_of(residual, lambda: dict(new=Branch()))
    write(trial, '1', weight=0.0, bias=0.0)
    assert trial.measure(trial.places).is_harmless
    for calls in trial._clean[False].values():
        calls.append(calls[0])
    with pytest.raises(ValueError, match='called in another way'):
        trial.measure(trial.places)


def test_swish_is_no_gate():
    trial = trial_of(
        lambda s, x, y: s.new(x + y),
        lambda: dict(new=SE(lambda g: g * g.sigmoid())),
    )
    assert not any(place.gates for place in trial.places)


def test_a_convolution_at_zero_before_a_norm_does_not_stay():
    def branch():
        return trial_of(
            residual,
            lambda: dict(new=Branch()),
        )

    trial = branch()
    write(trial, '0', weight=0.0, bias=0.0)
    outcome = outcome_of(trial)
    assert outcome.is_harmless and not outcome.stays
    trial = branch()
    write(trial, '1', weight=0.0, bias=0.0)
    outcome = outcome_of(trial)
    assert outcome.is_neutral
    # A bias before a norm has no effect, and so none on the outcome.
    assert len(outcome.learning) == 9


def test_behind_a_relu_exact_zero_does_not_learn():
    trial = trial_of(
        residual,
        lambda: dict(new=Branch(nn.ReLU())),
    )
    assert all(place.rectified for place in trial.places)
    write(trial, '1', weight=0.0, bias=0.0)
    outcome = outcome_of(trial)
    assert outcome.is_harmless and outcome.stuck


def test_a_trial_leaves_the_model_as_it_was():
    trial = trial_of(lambda s, x, y: x + s.new(y), lambda: dict(new=SE()))
    model = trial.network.model
    model.train()
    model.stages[0].bn.eval()
    model.stem.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    outcome_of(trial)
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert torch.get_rng_state().equal(state)
    assert not model.stem.weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())
    assert not any(m._forward_pre_hooks for m in model.modules())
