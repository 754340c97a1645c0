"""What initializing new blocks costs, in a Mask R-CNN."""

import torch.nn as nn
from mmengine.model import initialize
from subjects import BLOCK_CFG, BLOCKS, LAST_CFG, RULES, detector, pretrained
from timing import in_turns

from mmpartinit import init_modules


def fill(module):
    """What ``BLOCK_CFG`` does, as a function for ``Apply``."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def fill_last(module):
    """What ``LAST_CFG`` does."""
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)


APPLY_RULES = [
    dict(path=BLOCKS, init_cfg=dict(type='Apply', fn=fill)),
    dict(
        path=f'{BLOCKS}.channel_add_conv.3',
        init_cfg=dict(type='Apply', fn=fill_last),
    ),
]
OF_WHOLE = dict(Kaiming=dict(mode='fan_in'), Constant=dict(val=0.1))


def rows():
    """Against ways to do it by hand."""
    model = detector()
    state = pretrained(model)
    loaded = set(state)
    blocks = [
        m for n, m in model.named_modules() if n.endswith('context_block')
    ]
    assert len(blocks) == 13

    def ours():
        init_modules(model, RULES, loaded=loaded)

    def by_hand():
        for block in blocks:
            initialize(block, BLOCK_CFG)
            initialize(block.channel_add_conv[3], LAST_CFG)

    def whole_then_load():
        initialize(model.backbone, BLOCK_CFG)
        for block in blocks:
            initialize(block.channel_add_conv[3], LAST_CFG)
        model.load_state_dict(state, strict=False)

    what = 'init_modules on 13 new blocks, 10 M parameters, of Mask R-CNN'
    yield in_turns(
        'by hand', what, 'initialize() on each block', 1.2, ours, by_hand
    )
    yield in_turns(
        'whole backbone',
        what,
        'initialize() on the backbone, then load',
        0.45,
        ours,
        whole_then_load,
    )

    def ours_by_apply():
        init_modules(model, APPLY_RULES, loaded=loaded)

    def apply_by_hand():
        for block in blocks:
            block.apply(fill)
            block.channel_add_conv[3].apply(fill_last)

    yield in_turns(
        'apply',
        'the same by functions of a user, the rest of the model compared',
        'apply() of the functions on each block',
        None,
        ours_by_apply,
        apply_by_hand,
    )

    for kind, limit in (('Kaiming', 1.1), ('Constant', 1.3)):
        cfg = dict(type=kind, layer='Conv2d', **OF_WHOLE[kind])
        whole = [dict(path='backbone', init_cfg=cfg)]
        yield in_turns(
            f'{kind} on all',
            f'a rule for the whole backbone, {kind}: all but the blocks kept',
            'initialize() on the backbone, which keeps nothing',
            limit,
            lambda rules=whole: init_modules(model, rules, loaded=loaded),
            lambda cfg=cfg: initialize(model.backbone, cfg),
        )
