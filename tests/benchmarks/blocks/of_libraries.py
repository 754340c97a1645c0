"""The blocks of mmcv and mmdet, each at two places."""

from typing import Any, Dict

from .cases import (
    FOR_CONV,
    FOR_EARLY_CONV,
    LATE,
    Block,
    C,
)


def _conv(kind: str) -> Dict[str, Any]:
    return dict(type=kind, kernel_size=3, padding=1, bias=False)


def _tokens(**block: Any) -> Dict[str, Any]:
    return dict(type='Tokens', block=block)


_CONTEXT = dict(type='ContextBlock', in_channels=C, ratio=0.25)
_NON_LOCAL = dict(type='NonLocal2d', in_channels=C)
_BN = dict(type='BN')
_THROUGH = dict(in_channels=C, out_channels=C)

# Left out: NonLocal2d's 'concatenation', which writes over what its own
# backward pass needs, and CARAFE, which has no code for the CPU.
OF_LIBRARIES = [
    # ------------------------------------------------------------ mmcv
    Block('ContextBlock, add', 'mmcv', _CONTEXT),
    Block(
        'ContextBlock, mul',
        'mmcv',
        dict(_CONTEXT, fusion_types=['channel_mul']),
        gate=True,
    ),
    Block(
        'ContextBlock, both',
        'mmcv',
        dict(_CONTEXT, fusion_types=['channel_add', 'channel_mul']),
        gate=True,
    ),
    *(
        Block(
            f'GeneralizedAttention, {kind}',
            'mmcv',
            dict(
                type='GeneralizedAttention',
                in_channels=C,
                num_heads=8,
                attention_type=kind,
                kv_stride=1,
            ),
            LATE,
        )
        for kind in ('1111', '0010')
    ),
    *(
        Block(f'NonLocal2d, {mode}', 'mmcv', dict(_NON_LOCAL, mode=mode), LATE)
        for mode in ('embedded_gaussian', 'gaussian', 'dot_product')
    ),
    Block('NonLocal2d with BN', 'mmcv', dict(_NON_LOCAL, norm_cfg=_BN), LATE),
    Block(
        'NonLocal2d, zeros_init=False',
        'mmcv',
        dict(_NON_LOCAL, zeros_init=False),
        LATE,
    ),
    Block(
        'CrissCrossAttention',
        'mmcv',
        dict(type='CrissCrossAttention', in_channels=C),
        LATE,
    ),
    Block('ConvModule', 'mmcv', dict(type='MMConv', channels=C, norm_cfg=_BN)),
    Block(
        'ConvModule as a branch',
        'mmcv',
        dict(type='MMConv', channels=C, norm_cfg=_BN, residual=True),
    ),
    Block(
        'DepthwiseSeparableConvModule',
        'mmcv',
        dict(
            type='DepthwiseSeparableConvModule',
            kernel_size=3,
            padding=1,
            norm_cfg=_BN,
            **_THROUGH,
        ),
    ),
    Block('DCN', 'mmcv', dict(_conv('DCN'), im2col_step=2), FOR_EARLY_CONV),
    Block('DCNv2', 'mmcv', _conv('DCNv2'), FOR_EARLY_CONV, gate=True),
    Block('SAC', 'mmcv', _conv('SAC'), FOR_EARLY_CONV),
    Block('ConvAWS', 'mmcv', _conv('ConvAWS'), FOR_CONV),
    Block('ConvWS', 'mmcv', _conv('ConvWS'), FOR_CONV),
    Block('Scale', 'mmcv', dict(type='Scale')),
    Block(
        'LayerScale',
        'mmcv',
        dict(type='LayerScale', dim=C, data_format='channels_first'),
    ),
    Block(
        'FFN',
        'mmcv',
        _tokens(type='FFN', embed_dims=C, feedforward_channels=64),
    ),
    Block(
        'MultiheadAttention',
        'mmcv',
        _tokens(
            type='MultiheadAttention',
            embed_dims=C,
            num_heads=4,
            batch_first=True,
        ),
        LATE,
    ),
    # ----------------------------------------------------------- mmdet
    Block(
        'DropBlock',
        'mmdet',
        dict(type='DropBlock', drop_prob=0.1, block_size=1),
    ),
    Block(
        'SELayer',
        'mmdet',
        dict(type='SELayer', channels=C, ratio=4),
        gate=True,
    ),
    Block(
        'SELayer, HSigmoid',
        'mmdet',
        dict(
            type='SELayer',
            channels=C,
            ratio=4,
            act_cfg=(dict(type='ReLU'), dict(type='HSigmoid')),
        ),
        gate=True,
    ),
    Block(
        'ChannelAttention',
        'mmdet',
        dict(type='ChannelAttention', channels=C),
        gate=True,
    ),
    Block('DyReLU', 'mmdet', dict(type='DyReLU', channels=C)),
    Block('CSPLayer', 'mmdet', dict(type='CSPLayer', **_THROUGH)),
    Block(
        'DarknetBottleneck',
        'mmdet',
        dict(type='DarknetBottleneck', **_THROUGH),
    ),
    Block('CSPNeXtBlock', 'mmdet', dict(type='CSPNeXtBlock', **_THROUGH)),
    Block(
        'InvertedResidual',
        'mmdet',
        dict(type='InvertedResidual', mid_channels=64, **_THROUGH),
    ),
    Block(
        'InvertedResidual with SE',
        'mmdet',
        dict(
            type='InvertedResidual',
            mid_channels=64,
            se_cfg=dict(channels=64, ratio=4),
            **_THROUGH,
        ),
    ),
]
