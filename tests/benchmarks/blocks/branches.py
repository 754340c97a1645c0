"""Blocks that add, in the forms that papers and their code use."""

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from mmengine.model import BaseModule
from mmengine.registry import MODELS


def conv(channels, out, size=1, bias=True):
    return nn.Conv2d(channels, out, size, padding=size // 2, bias=bias)


@MODELS.register_module()
class Adapter(nn.Module):
    """https://arxiv.org/abs/1902.00751: the residual is inside."""

    def __init__(self, channels, zero=False):
        super().__init__()
        self.down = conv(channels, channels // 4)
        self.up = conv(channels // 4, channels)
        if zero:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, x):
        return x + self.up(F.gelu(self.down(x)))


@MODELS.register_module()
class AdapterByInitWeights(BaseModule):
    """The same, drawn by its own `init_weights`, and never at zero."""

    def __init__(self, channels):
        super().__init__()
        self.down = conv(channels, channels // 4)
        self.up = conv(channels // 4, channels)

    def init_weights(self):
        for layer in (self.down, self.up):
            nn.init.normal_(layer.weight, std=0.2)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        return x + self.up(F.gelu(self.down(x)))


@MODELS.register_module()
class AdapterByInitCfg(BaseModule):
    """The same, with an `init_cfg` of its own."""

    def __init__(self, channels):
        super().__init__(dict(type='Normal', layer='Conv2d', std=0.01))
        self.down = conv(channels, channels // 4)
        self.up = conv(channels // 4, channels)

    def forward(self, x):
        return x + self.up(F.gelu(self.down(x)))


@MODELS.register_module()
class ParallelAdapter(nn.Module):
    """https://arxiv.org/abs/2110.04366: only what is added."""

    def __init__(self, channels, scale=4.0):
        super().__init__()
        self.down = conv(channels, channels // 4)
        self.up = conv(channels // 4, channels)
        self.scale = scale

    def forward(self, x):
        return self.scale * self.up(F.relu(self.down(x)))


@MODELS.register_module()
class AdaptFormer(nn.Module):
    """https://arxiv.org/abs/2205.13535: norm, zeros, and a bare scale."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.down = conv(channels, channels // 4)
        self.up = conv(channels // 4, channels)
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        for tensor in (self.up.weight, self.down.bias, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, x):
        return x + self.scale * self.up(F.relu(self.down(self.norm(x))))


@MODELS.register_module()
class ResidualConv(nn.Module):
    """x + conv(x), with a norm behind it or not, and a ReLU or not."""

    def __init__(self, channels, norm=True, relu=True):
        super().__init__()
        self.conv = conv(channels, channels, 3, bias=not norm)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.act = nn.ReLU() if relu else nn.Identity()

    def forward(self, x):
        return x + self.act(self.norm(self.conv(x)))


@MODELS.register_module()
class ResidualConvs(nn.Module):
    """x + two convolutions, with norms or without."""

    def __init__(self, channels, norm=False):
        super().__init__()
        mid = channels // 2
        layers = [conv(channels, mid, 3), nn.ReLU(), conv(mid, channels, 3)]
        if norm:
            layers.insert(1, nn.BatchNorm2d(mid))
            layers.append(nn.BatchNorm2d(channels))
        self.branch = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.branch(x)


@MODELS.register_module()
class SelfAttention(nn.Module):
    """Multi-head self-attention over positions; the residual is outside."""

    def __init__(self, channels, heads=4):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x):
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        split = self.qkv(tokens).view(n, h * w, 3, self.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5
        out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, h * w, c)
        return self.proj(out).transpose(1, 2).reshape(x.shape)


@MODELS.register_module()
class TransformerBlock(nn.Module):
    """Attention and MLP with norms before them, or behind the additions."""

    def __init__(self, channels, norm_first=True):
        super().__init__()
        self.attn = nn.MultiheadAttention(channels, 4, batch_first=True)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels),
            nn.GELU(),
            nn.Linear(2 * channels, channels),
        )
        self.norm2 = nn.LayerNorm(channels)
        self.norm_first = norm_first

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        if self.norm_first:
            y = self.norm1(tokens)
            tokens = tokens + self.attn(y, y, y, need_weights=False)[0]
            tokens = tokens + self.mlp(self.norm2(tokens))
        else:
            y = self.attn(tokens, tokens, tokens, need_weights=False)[0]
            tokens = self.norm1(tokens + y)
            tokens = self.norm2(tokens + self.mlp(tokens))
        return tokens.transpose(1, 2).reshape(x.shape)


@MODELS.register_module()
class ScaledResidual(nn.Module):
    """x + factor * branch(x), with a bare factor.

    ReZero (https://arxiv.org/abs/2003.04887) starts it at 0, and so does
    Flamingo (https://arxiv.org/abs/2204.14198) within a tanh; ConvNeXt
    (https://arxiv.org/abs/2201.03545) at 1e-6.
    """

    def __init__(self, channels, start, tanh=False):
        super().__init__()
        self.branch = nn.Sequential(
            conv(channels, channels // 2),
            nn.GELU(),
            conv(channels // 2, channels),
        )
        self.alpha = nn.Parameter(torch.full((channels, 1, 1), start))
        self.tanh = tanh

    def forward(self, x):
        alpha = torch.tanh(self.alpha) if self.tanh else self.alpha
        return x + alpha * self.branch(x)


@MODELS.register_module()
class NonLocal(nn.Module):
    """https://arxiv.org/abs/1711.07971 without its zero-initialised norm."""

    def __init__(self, channels):
        super().__init__()
        mid = channels // 2
        self.theta, self.phi = conv(channels, mid), conv(channels, mid)
        self.g, self.out = conv(channels, mid), conv(mid, channels)

    def forward(self, x):
        theta, phi = self.theta(x).flatten(2), self.phi(x).flatten(2)
        weights = (theta.transpose(1, 2) @ phi).softmax(-1)
        y = self.g(x).flatten(2) @ weights.transpose(1, 2)
        return x + self.out(y.view(len(x), -1, *x.shape[2:]))
