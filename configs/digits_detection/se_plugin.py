"""Squeeze-and-excitation as a plugin for mmdet's ResNet.

Written as a user's project would be; nothing in here knows the hook.
"""

import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class SE(nn.Module):
    """Each channel times a gate between 0 and 1.

    From "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507.
    A plain module, without ``init_weights``, as most people write them.
    """

    def __init__(self, in_channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, in_channels // ratio)
        self.fc2 = nn.Linear(in_channels // ratio, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(F.relu(self.fc1(x.mean((2, 3)))))
        return x * gate.sigmoid()[:, :, None, None]
