"""Blocks in the forms that papers and their code use, each at two places."""

from typing import Any, Dict

from .cases import (
    BESIDE,
    FACTOR,
    LATE,
    LATE_ADDED,
    Block,
    C,
    Odd,
)


def _backbones(**places: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    return {
        place.replace('_', ' '): dict(type='DigitsClassifier', backbone=cfg)
        for place, cfg in places.items()
    }


def _head(plug: Dict[str, Any], wraps: bool = False) -> Dict[str, Any]:
    return dict(type='PluggedClassifier', plug=plug, wraps=wraps)


def _for_conv(plug: Dict[str, Any], place: str) -> Dict[str, Any]:
    cfg = dict(type='PluggedResNet', plug=plug, place=place)
    return dict(type='DigitsClassifier', backbone=cfg)


def _prompt(start: float) -> Dict[str, Dict[str, Any]]:
    cfg = dict(type='PromptedResNet', start=start, img_size=8)
    return _backbones(
        after_layer2=dict(cfg, stage=2), after_layer3=dict(cfg, stage=3)
    )


OF_PAPERS = [
    # ------------------------------------------------ papers' own: gates
    Block('SE', 'own', dict(type='PlainSE', channels=C), gate=True),
    Block(
        'SE, bias=False',
        'own',
        dict(type='SequentialSE', channels=C),
        gate=True,
    ),
    Block(
        'SE, hard sigmoid',
        'own',
        dict(type='PlainSE', channels=C, gate='hard_sigmoid'),
        gate=True,
    ),
    Block(
        'SE, tanh',
        'own',
        dict(type='PlainSE', channels=C, gate='tanh'),
        gate=True,
    ),
    Block('SE, swish', 'own', dict(type='PlainSE', channels=C, gate='swish')),
    Block('CBAM', 'own', dict(type='CBAM', channels=C), gate=True),
    Block(
        'spatial gate', 'own', dict(type='SpatialGate', channels=C), gate=True
    ),
    Block('ECA', 'own', dict(type='ECA', channels=C), gate=True),
    Block(
        'coordinate attention',
        'own',
        dict(type='CoordinateAttention', channels=C),
        gate=True,
    ),
    Block('GCT', 'own', dict(type='GCT', channels=C)),
    Block(
        'x + x * gate', 'own', dict(type='ResidualGate', channels=C), gate=True
    ),
    Block('FiLM', 'own', dict(type='FiLM', channels=C)),
    Block(
        'FiLM around 1', 'own', dict(type='FiLM', channels=C, around_one=True)
    ),
    Block('SSF', 'own', dict(type='SSF', channels=C)),
    Block('affine', 'own', dict(type='Affine', channels=C)),
    Block(
        'bare factor, built 1e-6',
        'own',
        dict(type='Factor', channels=C, start=1e-6),
        FACTOR,
    ),
    Block(
        'bare factor, built 1',
        'own',
        dict(type='Factor', channels=C, start=1.0),
        FACTOR,
    ),
    # --------------------------------------------- papers' own: branches
    Block('adapter', 'own', dict(type='Adapter', channels=C)),
    Block(
        'adapter, last 0', 'own', dict(type='Adapter', channels=C, zero=True)
    ),
    Block(
        'adapter, own init_weights',
        'own',
        dict(type='AdapterByInitWeights', channels=C),
    ),
    Block(
        'adapter, own init_cfg',
        'own',
        dict(type='AdapterByInitCfg', channels=C),
    ),
    Block(
        'parallel adapter',
        'own',
        dict(type='ParallelAdapter', channels=C),
        BESIDE,
    ),
    Block('AdaptFormer', 'own', dict(type='AdaptFormer', channels=C)),
    Block(
        'x + conv, norm',
        'own',
        dict(type='ResidualConv', channels=C, relu=False),
    ),
    Block(
        'x + conv, norm, ReLU', 'own', dict(type='ResidualConv', channels=C)
    ),
    Block(
        'x + conv',
        'own',
        dict(type='ResidualConv', channels=C, norm=False, relu=False),
    ),
    Block('x + two convs', 'own', dict(type='ResidualConvs', channels=C)),
    Block(
        'x + two convs, norms',
        'own',
        dict(type='ResidualConvs', channels=C, norm=True),
    ),
    Block(
        'self-attention',
        'own',
        dict(type='SelfAttention', channels=C),
        LATE_ADDED,
    ),
    Block('non-local, drawn', 'own', dict(type='NonLocal', channels=C), LATE),
    Block(
        'transformer block',
        'own',
        dict(type='TransformerBlock', channels=C),
        LATE,
    ),
    Block(
        'transformer block, norm last',
        'own',
        dict(type='TransformerBlock', channels=C, norm_first=False),
        LATE,
    ),
    Block('ReZero', 'own', dict(type='ScaledResidual', channels=C, start=0.0)),
    Block(
        'x + tanh(0) * branch',
        'own',
        dict(type='ScaledResidual', channels=C, start=0.0, tanh=True),
    ),
    Block(
        'x + 1e-6 * branch',
        'own',
        dict(type='ScaledResidual', channels=C, start=1e-6),
    ),
    # -------------------------------------------- in sequence, and others
    Block(
        'conv 3x3 in sequence',
        'own',
        dict(type='ConvNormReLU', channels=C, norm=False),
    ),
    Block(
        'conv 1x1 in sequence',
        'own',
        dict(type='ConvNormReLU', channels=C, norm=False, size=1),
    ),
    Block(
        'depthwise conv in sequence',
        'own',
        dict(type='ConvNormReLU', channels=C, norm=False, depthwise=True),
    ),
    Block(
        'conv, norm, ReLU in sequence',
        'own',
        dict(type='ConvNormReLU', channels=C),
    ),
    Block('linear in sequence', 'own', dict(type='ChannelLinear', channels=C)),
    Block('BatchNorm in sequence', 'own', dict(type='Norm', channels=C)),
    Block(
        'GroupNorm in sequence',
        'own',
        dict(type='Norm', channels=C, kind='group'),
    ),
    Block('PReLU in sequence', 'own', dict(type='Slope', channels=C)),
    Block('two views fused', 'own', dict(type='Concat', channels=C)),
    Block(
        'two views, shuffled',
        'own',
        dict(type='Concat', channels=C, shuffle=True),
    ),
    Odd(
        'second input branch',
        'own',
        _backbones(
            at_layer1=dict(
                type='TwoInputsResNet',
                plug=dict(type='SideBranch', channels=16, stride=1),
                stage=1,
            ),
            at_layer2=dict(
                type='TwoInputsResNet',
                plug=dict(type='SideBranch', channels=32, stride=2),
                stage=2,
            ),
        ),
    ),
    Odd('prompt, zeros', 'own', _prompt(0.0)),
    Odd('prompt, drawn', 'own', _prompt(0.2)),
    Odd(
        'layer replaced',
        'own',
        {
            'for conv2': _for_conv(dict(type='LargeConv'), 'for conv2'),
            'for the head': _head(dict(type='MLPHead')),
        },
    ),
    # ---------------------------------------------------------- wrappers
    Odd(
        'LoRA, bare',
        'own',
        {
            'for conv2': _for_conv(dict(type='LoRAConv'), 'for conv2'),
            'for the head': _head(
                dict(type='LoRALinear', in_features=64, out_features=10)
            ),
        },
    ),
    Odd(
        'LoRA, layers',
        'own',
        {
            'around conv2': _for_conv(
                dict(type='LoRAWrapper'), 'around conv2'
            ),
            'around the head': _head(dict(type='LoRAWrapper'), wraps=True),
        },
    ),
    Odd(
        'LoRA, layers, drawn',
        'own',
        {
            'around conv2': _for_conv(
                dict(type='LoRAWrapper', zero=False), 'around conv2'
            ),
            'around the head': _head(
                dict(type='LoRAWrapper', zero=False), wraps=True
            ),
        },
    ),
]
