"""What initializing new blocks costs, in a Mask R-CNN."""

from mmengine.model import initialize
from subjects import BLOCK_CFG, LAST_CFG, RULES, detector, pretrained
from timing import in_turns

from mmpartinit import init_modules


def rows():
    """Against two ways to do it by hand."""
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
        'by hand', what, 'initialize() on each block', 1.08, ours, by_hand
    )
    yield in_turns(
        'whole backbone',
        what,
        'initialize() on the backbone, then load',
        0.45,
        ours,
        whole_then_load,
    )
