"""Layers in sequence, layers for others, wrappers, and what joins features."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from mmengine.registry import MODELS

from .branches import conv


@MODELS.register_module()
class ConvNormReLU(nn.Module):
    """In sequence; without norm and ReLU it is a convolution."""

    def __init__(self, channels, size=3, norm=True, depthwise=False):
        super().__init__()
        groups = channels if depthwise else 1
        self.conv = nn.Conv2d(
            channels,
            channels,
            size,
            padding=size // 2,
            groups=groups,
            bias=not norm,
        )
        self.norm = nn.BatchNorm2d(channels) if norm else None

    def forward(self, x):
        x = self.conv(x)
        return x if self.norm is None else F.relu(self.norm(x))


@MODELS.register_module()
class ChannelLinear(nn.Module):
    """A linear layer over the channels of each position."""

    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x):
        return self.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@MODELS.register_module()
class Norm(nn.Module):
    """A norm in sequence."""

    def __init__(self, channels, kind='batch'):
        super().__init__()
        kinds = dict(batch=nn.BatchNorm2d, group=lambda c: nn.GroupNorm(4, c))
        self.norm = kinds[kind](channels)

    def forward(self, x):
        return self.norm(x)


@MODELS.register_module()
class Slope(nn.Module):
    """A PReLU in sequence."""

    def __init__(self, channels):
        super().__init__()
        self.act = nn.PReLU(channels)

    def forward(self, x):
        return self.act(x)


@MODELS.register_module()
class Concat(nn.Module):
    """Two views of the features, fused by a convolution."""

    def __init__(self, channels, shuffle=False):
        super().__init__()
        self.side = conv(channels, channels, 3)
        self.fuse = conv(2 * channels, channels)
        self.shuffle = shuffle

    def forward(self, x):
        y = torch.cat([x, F.relu(self.side(x))], 1)
        if self.shuffle:
            y = y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return self.fuse(y)


@MODELS.register_module()
class SideBranch(nn.Sequential):
    """A second look at the image, with a stride of its own."""

    def __init__(self, channels, stride):
        super().__init__(
            nn.Conv2d(1, channels, 3, stride, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )


@MODELS.register_module()
class LargeConv(nn.Conv2d):
    """For a convolution of 3 x 3, whose weight does not fit."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__(in_channels, out_channels, 5, stride, 2, bias=False)


@MODELS.register_module()
class MLPHead(nn.Sequential):
    """For the last layer: two, as of contrastive learning."""

    def __init__(self):
        super().__init__(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


class LoRAWeights:
    """Bare low-rank factors beside a weight, as of loralib.

    https://arxiv.org/abs/2106.09685; the layer keeps its names.
    """

    def add_factors(self, rank):
        out, columns = self.weight.flatten(1).shape
        self.lora_A = nn.Parameter(torch.empty(rank, columns))
        self.lora_B = nn.Parameter(torch.zeros(out, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def merged(self):
        return self.weight + (self.lora_B @ self.lora_A).view_as(self.weight)


@MODELS.register_module()
class LoRALinear(nn.Linear, LoRAWeights):
    def __init__(self, in_features, out_features, rank=4):
        super().__init__(in_features, out_features)
        self.add_factors(rank)

    def forward(self, x):
        return F.linear(x, self.merged(), self.bias)


@MODELS.register_module()
class LoRAConv(nn.Conv2d, LoRAWeights):
    def __init__(self, in_channels, out_channels, stride, rank=4):
        super().__init__(in_channels, out_channels, 3, stride, 1, bias=False)
        self.add_factors(rank)

    def forward(self, x):
        return F.conv2d(x, self.merged(), None, self.stride, self.padding)


@MODELS.register_module()
class LoRAWrapper(nn.Module):
    """A layer and low-rank layers beside it, as of mmpretrain.

    The checkpoint's names are those of the layer; they are mapped when it is
    loaded.
    """

    def __init__(self, layer, rank=4, zero=True):
        super().__init__()
        self.original_layer = layer
        if isinstance(layer, nn.Linear):
            self.lora_down = nn.Linear(layer.in_features, rank, bias=False)
            self.lora_up = nn.Linear(rank, layer.out_features, bias=False)
        else:
            self.lora_down = nn.Conv2d(
                layer.in_channels, rank, 3, layer.stride, 1, bias=False
            )
            self.lora_up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.lora_down.weight, a=math.sqrt(5))
        if zero:
            nn.init.zeros_(self.lora_up.weight)
        self._register_load_state_dict_pre_hook(self._rename)

    def _rename(self, state_dict, prefix, *args):
        for name in ('weight', 'bias'):
            if prefix + name in state_dict:
                value = state_dict.pop(prefix + name)
                state_dict[f'{prefix}original_layer.{name}'] = value

    def forward(self, x):
        return self.original_layer(x) + self.lora_up(self.lora_down(x))
