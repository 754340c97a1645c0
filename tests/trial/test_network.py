"""A network runs on made-up input, and is afterwards as it was before."""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.model import BaseModel
from nets import Net
from toy import ToyModel, same, snapshot

from mmpartinit.trial.network import Network, NotRun, floating

NO_CONFIG = Config()


class Tokens(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Embedding(7, 4), nn.Linear(4, 2))


class Clips(BaseModel):
    """Takes several clips of each video, as mmaction2's recognizers do."""

    def __init__(self, dims):
        super().__init__()
        self.conv = (nn.Conv2d if dims == 2 else nn.Conv3d)(3, 2, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.conv(inputs.view(-1, *inputs.shape[2:]))


class Fixed(nn.Sequential):
    """Takes images of one size only."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(5, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 48, 3)
        )


class Refuses(nn.Conv2d):
    """Takes no input, and knows which it was asked to take."""

    def __init__(self):
        super().__init__(3, 2, 3)
        self.asked = []

    def forward(self, x):
        self.asked.append(tuple(x.shape))
        raise ValueError('no')


def test_large_images_are_tried_and_no_large_videos():
    model = Refuses()
    cfg = dict(train_pipeline=[dict(type='Resize', scale=(2560, 640))])
    with pytest.raises(NotRun, match='ValueError: no'):
        Network(model, Config(cfg))
    assert model.asked[-1] == (2, 3, 640, 2560)
    assert (2, 8, 3, 256, 256) in model.asked


@pytest.mark.parametrize(
    'model, cfg, way, shape',
    [
        (Net(), {}, "mode='tensor'", (2, 1, 128, 128)),
        (ToyModel(), {}, "mode='tensor'", (2, 4)),
        (nn.Sequential(nn.Conv1d(5, 4, 3)), {}, 'forward', (2, 5, 128)),
        (nn.Conv3d(2, 4, 3), {}, 'forward', (2, 2, 8, 128, 128)),
        (Clips(2), {}, "mode='tensor'", (2, 8, 3, 128, 128)),
        (Clips(3), {}, "mode='tensor'", (2, 1, 3, 8, 128, 128)),
        (Tokens(), {}, 'forward', (2, 16)),
        (
            Fixed(),
            dict(train_pipeline=[dict(type='Resize', scale=(8, 6))] * 2),
            None,
            None,
        ),
        (
            Fixed(),
            dict(model=dict(head=dict(img_size=(6, 8)))),
            None,
            None,
        ),
    ],
)
def test_the_input_is_what_the_first_layer_takes(model, cfg, way, shape):
    if way is None:  # sizes that small are no images'
        with pytest.raises(NotRun):
            Network(model, Config(cfg))
        return
    network = Network(model, Config(cfg))
    assert (network.way, network.shape) == (way, shape)
    assert any(out.requires_grad for out in floating(network.run()))


@pytest.mark.parametrize(
    'cfg',
    [
        dict(model=dict(backbone=dict(img_size=(48, 64)))),
        dict(test_pipeline=[dict(type='Resize', scale=(64, 48))]),
        dict(train_pipeline=[dict(type='RandomCrop', crop_size=(48, 64))]),
        dict(
            train_dataloader=dict(
                dataset=dict(pipeline=[dict(type='Resize', scale=(64, 48))])
            )
        ),
    ],
)
def test_the_config_says_what_size_an_image_has(cfg):
    model = nn.Sequential(
        nn.Conv2d(5, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 48 * 64, 3)
    )
    assert Network(model, Config(cfg)).shape == (2, 5, 48, 64)


class Heads(BaseModel):
    """Needs data samples for its heads, as DETR-like ones do."""

    def __init__(self, needed):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.needed = needed

    def extract_feat(self, inputs):
        return (self.conv(inputs),)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        size = data_samples[1].metainfo[self.needed]
        data_samples.clear()  # nobody's but this pass's
        return dict(scores=self.conv(inputs.zero_() + size[0]))


def test_data_samples_say_what_heads_ask_for():
    for key in ('img_shape', 'batch_input_shape', 'scale_factor'):
        network = Network(Heads(key), NO_CONFIG)
        assert network.way == "mode='tensor'"
        (first,), (second,) = floating(network.run()), floating(network.run())
        assert same(first, second) and first.std() > 0
    network = Network(Heads('text'), NO_CONFIG)
    assert network.way == 'extract_feat'
    assert len(list(floating(network.run()))) == 1


class Useless(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    'model, reason',
    [
        (nn.ModuleDict(dict(a=nn.Linear(2, 2))), 'it has no forward'),
        (Useless(), 'nothing that it returns depends on its weights'),
        (nn.Bilinear(2, 2, 2), 'TypeError'),
    ],
)
def test_a_network_that_cannot_be_run_says_why(model, reason):
    with pytest.raises(NotRun, match=reason) as info:
        Network(model, NO_CONFIG)
    assert type(model).__name__ in str(info.value)
    assert '\n' not in str(info.value)


def test_a_frozen_network_runs_and_stays_frozen():
    model = Net().requires_grad_(False)
    Network(model, NO_CONFIG)
    assert not any(p.requires_grad for p in model.parameters())


class Training(nn.Module):
    """Does what models do in train mode."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.5)
        self.register_buffer('count', torch.zeros(1), persistent=False)

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        self.conv.bias.requires_grad_(False)
        return self

    def forward(self, x):
        self.count = self.count + 1
        x = self.drop(self.frozen(self.bn(self.conv(x))))
        x = nn.functional.dropout(x, 0.5, self.training)
        x = x[:, :, 0].flatten(2).permute(2, 0, 1)
        torch.rand(1), random.random(), np.random.rand()
        return self.attention(x, x, x)[0]


def state_of(model):
    flags = [module.training for module in model.modules()]
    learn = [p.requires_grad for p in model.parameters()]
    grads = [p.grad for p in model.parameters()]
    return flags, learn, grads, model.drop.p, model.attention.dropout


@pytest.mark.parametrize('train', [False, True])
def test_a_pass_leaves_no_trace_and_comes_out_the_same(train):
    model = Training()
    model.conv.bias.requires_grad_(True)
    model.bn.eval()
    before, state, count = snapshot(model), state_of(model), model.count
    network = Network(model, NO_CONFIG)
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    numbers = torch.get_rng_state(), random.getstate(), np.random.rand()
    np.random.seed(3)
    first = network.run(train)
    torch.rand(3)
    second = network.run(train)
    assert same(first, second)
    torch.set_rng_state(numbers[0])
    assert random.getstate() == numbers[1]
    assert np.random.rand() == numbers[2]
    for name, value in snapshot(model).items():
        assert same(value, before[name]), name
    assert model.count is count and count.eq(0).all()
    assert state_of(model) == state
    # What a backward pass needs was not written over.
    (first + second).sum().backward()
    assert model.conv.weight.grad is not None
    assert not torch.is_grad_enabled() or first.requires_grad
    with torch.no_grad():
        assert not network.run(train).requires_grad


def test_train_mode_is_the_runners_but_for_what_is_dropped():
    model = Training()
    network = Network(model, NO_CONFIG)
    seen = {}
    for name in ('bn', 'frozen', 'drop', 'attention'):
        model.get_submodule(name).register_forward_hook(
            lambda module, *_, name=name: seen.update({name: module.training})
        )
    dropped = []
    model.attention.register_forward_hook(
        lambda module, *_: dropped.append(module.dropout)
    )
    network.run(True)
    assert seen == dict(bn=True, frozen=False, drop=False, attention=True)
    assert dropped == [0.0]
    network.run()
    assert not any(seen.values())


def test_another_network_sees_the_same():
    seen = []

    def watched(model):
        model.stem.register_forward_hook(lambda m, x, y: seen.append(x[0]))
        return model

    first = Network(watched(Net()), NO_CONFIG, seed=4)
    second = Network(watched(Net()), NO_CONFIG, seed=4)
    other = first.of(watched(Net('gate')))
    seen.clear()
    first.run(), second.run(), other.run()
    assert len(seen) == 3 and seen[0].std() > 0
    assert same(seen[0], seen[1]) and same(seen[0], seen[2])
    with pytest.raises(NotRun, match='unexpected keyword'):
        first.of(nn.Conv2d(3, 4, 1))


def test_a_shaken_network_sees_almost_the_same():
    network = Network(Net(), NO_CONFIG)
    seen = []
    network.model.stem.register_forward_hook(
        lambda m, x, y: seen.append(x[0].clone())
    )
    network.run(), network.shaken(0.01).run(), network.run()
    assert same(seen[0], seen[2])
    distance = (seen[1] - seen[0]).norm() / seen[0].norm()
    assert distance.item() == pytest.approx(0.01, rel=0.05)


def test_batches_of_data_are_given_as_a_runner_does():
    model = Net()
    inputs = torch.randn(3, 1, 16, 16)
    for data in (dict(data_samples=None, inputs=inputs), (inputs, None)):
        network = Network(model, NO_CONFIG, data=copy.copy(data))
        assert network.shape == (3, 1, 16, 16)
        with torch.no_grad():
            first, _ = network.run()
            model.eval()
            assert same(first, model(inputs)[0])
    with pytest.raises(NotRun, match='on the data'):
        Network(model, NO_CONFIG, data=dict(inputs=torch.randn(2, 2)))
