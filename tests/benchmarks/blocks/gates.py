"""Blocks that multiply, in the forms that papers and their code use."""

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from mmengine.registry import MODELS

GATES = dict(
    sigmoid=torch.sigmoid,
    hard_sigmoid=F.hardsigmoid,
    tanh=torch.tanh,
    swish=F.silu,
)


@MODELS.register_module()
class PlainSE(nn.Module):
    """Squeeze-and-excitation, https://arxiv.org/abs/1709.01507."""

    def __init__(self, channels, gate='sigmoid', bias=True):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 4, bias)
        self.fc2 = nn.Linear(channels // 4, channels, bias)
        self.gate = GATES[gate]

    def forward(self, x):
        gate = self.gate(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


@MODELS.register_module()
class SequentialSE(nn.Module):
    """The same, written as most code on the web has it."""

    def __init__(self, channels, bias=False):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 4, bias=bias),
            nn.ReLU(inplace=True),
            nn.Linear(channels // 4, channels, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x):
        gate = self.fc(x.mean((2, 3))).view(*x.shape[:2], 1, 1)
        return x * gate.expand_as(x)


@MODELS.register_module()
class CBAM(nn.Module):
    """https://arxiv.org/abs/1807.06521; the second gate has a norm."""

    def __init__(self, channels):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, channels // 4),
            nn.ReLU(),
            nn.Linear(channels // 4, channels),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1)
        )

    def forward(self, x):
        pooled = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        x = x * pooled.sigmoid()[:, :, None, None]
        maps = torch.cat([x.amax(1, True), x.mean(1, True)], 1)
        return x * self.spatial(maps).sigmoid()


@MODELS.register_module()
class SpatialGate(nn.Module):
    """A gate for each position, with a bias."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        return x * self.conv(x).sigmoid()


@MODELS.register_module()
class ECA(nn.Module):
    """https://arxiv.org/abs/1910.03151: no bias anywhere."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        gate = self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0]
        return x * gate[:, :, None, None]


@MODELS.register_module()
class CoordinateAttention(nn.Module):
    """https://arxiv.org/abs/2103.02907: a gate for rows and for columns."""

    def __init__(self, channels):
        super().__init__()
        mid = max(8, channels // 32)
        self.conv1 = nn.Conv2d(channels, mid, 1)
        self.bn1 = nn.BatchNorm2d(mid)
        self.act = nn.Hardswish()
        self.conv_h = nn.Conv2d(mid, channels, 1)
        self.conv_w = nn.Conv2d(mid, channels, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        rows = x.mean(3, keepdim=True)
        columns = x.mean(2, keepdim=True).transpose(2, 3)
        y = self.act(self.bn1(self.conv1(torch.cat([rows, columns], 2))))
        y_h, y_w = y.split([h, w], 2)
        gate = self.conv_h(y_h).sigmoid()
        return x * gate * self.conv_w(y_w.transpose(2, 3)).sigmoid()


@MODELS.register_module()
class GCT(nn.Module):
    """https://arxiv.org/abs/1909.11519: bare parameters, which it starts."""

    def __init__(self, channels):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        norm = (x.pow(2).sum((2, 3), keepdim=True) + 1e-5).sqrt()
        embedding = self.alpha * norm
        scale = (embedding.pow(2).mean(1, keepdim=True) + 1e-5).rsqrt()
        return x * (1 + torch.tanh(self.gamma * scale * embedding + self.beta))


@MODELS.register_module()
class ResidualGate(nn.Module):
    """x + x * gate, as of https://arxiv.org/abs/1704.06904."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x + x * self.conv(x).sigmoid()


@MODELS.register_module()
class FiLM(nn.Module):
    """https://arxiv.org/abs/1709.07871: factor and summand by a layer."""

    def __init__(self, channels, around_one=False):
        super().__init__()
        self.fc = nn.Linear(channels, 2 * channels)
        self.around_one = around_one

    def forward(self, x):
        gamma, beta = self.fc(x.mean((2, 3)))[:, :, None, None].chunk(2, 1)
        if self.around_one:
            gamma = 1 + gamma
        return gamma * x + beta


@MODELS.register_module()
class SSF(nn.Module):
    """https://arxiv.org/abs/2210.08823: bare, and drawn as its code does."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.empty(channels))
        self.shift = nn.Parameter(torch.empty(channels))
        nn.init.normal_(self.scale, mean=1, std=0.02)
        nn.init.normal_(self.shift, std=0.02)

    def forward(self, x):
        return x * self.scale.view(1, -1, 1, 1) + self.shift.view(1, -1, 1, 1)


@MODELS.register_module()
class Affine(nn.Module):
    """ResMLP's, https://arxiv.org/abs/2105.03404: bare ones and zeros."""

    def __init__(self, channels):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        return self.alpha * x + self.beta


@MODELS.register_module()
class Factor:
    """A bare factor for a module that has it as its own parameter."""

    def __init__(self, channels, start):
        self.channels, self.start = channels, start

    def bare(self):
        return nn.Parameter(torch.full((self.channels,), self.start))
