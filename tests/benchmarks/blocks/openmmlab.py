"""Blocks of mmcv and mmdet, known to the registry by these names."""

import mmcv.cnn
import mmcv.cnn.bricks.transformer  # noqa: F401
import mmcv.ops  # noqa: F401
import torch.nn as nn
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmcv.cnn.bricks.scale import LayerScale, Scale
from mmdet.models.layers import (
    ChannelAttention,
    CSPLayer,
    DropBlock,
    DyReLU,
    InvertedResidual,
    SELayer,
)
from mmdet.models.layers.csp_layer import CSPNeXtBlock, DarknetBottleneck
from mmengine.registry import MODELS

for module in (
    DepthwiseSeparableConvModule,
    LayerScale,
    Scale,
    ChannelAttention,
    CSPLayer,
    DropBlock,
    DyReLU,
    InvertedResidual,
    SELayer,
    CSPNeXtBlock,
    DarknetBottleneck,
):
    MODELS.register_module(module=module, force=True)


@MODELS.register_module()
class Tokens(nn.Module):
    """A block for sequences, on the positions of a feature map."""

    def __init__(self, block):
        super().__init__()
        self.block = MODELS.build(block)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.block(tokens).transpose(1, 2).reshape(x.shape)


@MODELS.register_module()
class MMConv(nn.Module):
    """mmcv's ConvModule, in sequence or as a residual branch."""

    def __init__(self, channels, residual=False, **kwargs):
        super().__init__()
        self.conv = ConvModule(channels, channels, 3, padding=1, **kwargs)
        self.residual = residual

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)
