"""Modules that the example configs for mmdet (``configs/``) put into models.

Written as a user's project would have them; nothing in here knows the hook.
They are in the package so that a config that is copied finds them wherever it
lies: mmdetection's own checkout has a folder ``configs`` too.
"""

from typing import Any, Tuple

import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from mmdet.models import SwinTransformer
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class SE(nn.Module):
    """A plugin for mmdet's ResNet: each channel times a gate from 0 to 1.

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


class Adapter(nn.Module):
    """A bottleneck beside a pretrained layer, whose output it adds to.

    From "Parameter-Efficient Transfer Learning for NLP",
    https://arxiv.org/abs/1902.00751.
    """

    def __init__(self, dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims)
        self.down = nn.Linear(dims, hidden_dims)
        self.up = nn.Linear(hidden_dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.gelu(self.down(self.norm(x))))


@MODELS.register_module()
class SwinWithAdapters(SwinTransformer):
    """mmdet's Swin Transformer with an adapter beside each block's FFN.

    Args:
        adapter_dims (int): Hidden dimensions of the adapters.
    """

    def __init__(
        self, *args: Any, adapter_dims: int = 16, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        for stage in self.stages:
            for block in stage.blocks:
                ffn = block.ffn
                ffn.adapter = Adapter(ffn.embed_dims, adapter_dims)
                ffn.register_forward_hook(_add_adapter)


def _add_adapter(
    ffn: nn.Module, inputs: Tuple[Tensor, ...], output: Tensor
) -> Tensor:
    return output + ffn.adapter(inputs[0])
