"""Starts without a file, and those where nothing of it is left."""

import math

import torch
import torch.nn as nn
from mmengine.model import BaseModule, ModuleDict
from mmengine.runner import load_checkpoint
from ways import Net, read, way


def start(build):
    """A way in which no file decides anything."""
    return way(has_file=False)(build)


@start
def default(path):
    return Net()


@start
def constants(path):
    return Net(dict(type='Constant', layer='Linear', val=0.5, bias=0.25))


@start
def kaiming(path):
    layers = ['Conv2d', 'Linear']
    return Net(dict(type='Kaiming', layer=layers, distribution='uniform'))


@start
def last_layer_zero(path):
    net = Net()
    nn.init.zeros_(net.head.weight)
    nn.init.constant_(net.head.bias, -math.log(99))
    return net


@start
def orthogonal(path):
    net = Net()
    nn.init.orthogonal_(net.body.weight)
    return net


class Offsets(BaseModule):
    """A bias by formula beside a weight of zeros, as Deformable DETR has."""

    def __init__(self):
        super().__init__()
        self.sampling_offsets = nn.Linear(4, 16)

    def init_weights(self):
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(8) * (2 * math.pi / 8)
        grid = torch.stack([angles.cos(), angles.sin()], -1)
        self.sampling_offsets.bias.data = grid.flatten()


@start
def formula(path):
    return Offsets()


@start
def places(path):
    net = Net()
    index = torch.arange(9)[:, None] - torch.arange(9)[None] + 8
    net.register_buffer('relative_position_index', index)
    return net


@start
def waves(path):
    net = Net()
    steps = torch.arange(12.0)[:, None] * torch.tensor([1.0, 0.1, 0.01])
    net.places = nn.Parameter(torch.cat([steps.sin(), steps.cos()], 1))
    return net


@start
def bilinear(path):
    up = nn.ConvTranspose2d(2, 2, 4, groups=2, bias=False)
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    up.weight.data.copy_((ramp[:, None] * ramp).expand_as(up.weight))
    return up


@start
def identity(path):
    net = Net()
    net.square = nn.Linear(6, 6)
    nn.init.eye_(net.square.weight)
    return net


@start
def formula_in_part(path):
    layer = nn.Linear(4, 16)
    layer.bias.data[:8] = torch.linspace(-1, 1, 8)
    return layer


class Draws(Net):
    """Draws in an ``init_weights`` of its own."""

    def init_weights(self):
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)


@start
def own_draws(path):
    return Draws()


# --- draws of which elements coincide


@start
def first_row_zero(path):
    """As `padding_idx` has it: constant in part."""
    return nn.Embedding(9, 4, padding_idx=0)


@start
def gates_open(path):
    """As the forget gate of an LSTM often starts."""
    lstm = nn.LSTM(4, 6)
    for bias in (lstm.bias_ih_l0, lstm.bias_hh_l0):
        bias.data[6:12] = 1
    return lstm


@start
def clamped(path):
    layer = nn.Linear(40, 40)
    layer.weight.data.normal_().clamp_(-0.5, 0.5)
    return layer


@start
def sparse(path):
    layer = nn.Linear(40, 40)
    nn.init.sparse_(layer.weight, 0.5)
    return layer


@start
def signs(path):
    layer = nn.Linear(40, 40, bias=False)
    layer.weight.data.copy_(torch.randint(2, (40, 40)) * 2 - 1)
    return layer


@start
def bfloat16(path):
    return nn.Linear(64, 64).bfloat16()


@start
def drawn_order(path):
    net = Net()
    net.register_buffer('order', torch.randperm(50))
    net.register_buffer('mask', torch.rand(50) < 0.5)
    return net


# --- a state dict without a file


@start
def own_state(path):
    net = Net()
    net.load_state_dict(net.state_dict())
    return net


@start
def teacher_of_a_drawn_student(path):
    pair = ModuleDict({'student': Net(), 'teacher': Net()})
    pair['teacher'].load_state_dict(pair['student'].state_dict())
    return pair


# --- a file of which nothing is left


@start
def nothing_fits(path):
    net = Net()
    net.load_state_dict(read(path, 'prefixed')['state_dict'], strict=False)
    return net


@start
def other_shape(path):
    net = nn.ModuleDict({'head': nn.Linear(6, 9)})
    load_checkpoint(net, f'{path}/state.pth', logger='silent')
    return net


class LoadsFirst(Net):
    """Loads in its constructor."""

    def __init__(self, path, init_cfg=None):
        super().__init__(init_cfg)
        load_checkpoint(self, f'{path}/state.pth', logger='silent')


@way()
def written_over_by_chance(path):
    return LoadsFirst(path, dict(type='Normal', layer='Linear', std=0.1))


@way()
def written_over_by_a_constant(path):
    return LoadsFirst(path, dict(type='Constant', layer='Linear', val=0.5))


@start
def reset_after_loading(path):
    net = LoadsFirst(path)
    net.apply(lambda m: getattr(m, 'reset_parameters', lambda: None)())
    return net


class DrawsAfter(LoadsFirst):
    """Draws over what it has loaded, but for its norm."""

    def init_weights(self):
        for layer in (self.stem, self.table, self.body, self.head):
            nn.init.normal_(layer.weight)


@way()
def own_draws_after_loading(path):
    return DrawsAfter(path)
