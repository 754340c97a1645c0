"""What it costs to record which tensors are loaded."""

import torch.nn as nn

ORIGINAL = nn.Module._load_from_state_dict

from subjects import detector, pretrained  # noqa: E402
from timing import in_turns  # noqa: E402

from mmpartinit.model.loading import recorded as known  # noqa: E402
from mmpartinit.model.tree import ModelTree  # noqa: E402

RECORDING = nn.Module._load_from_state_dict


def rows():
    """Against the same without."""
    assert RECORDING is not ORIGINAL
    model = detector()
    model.backbone.init_cfg = [dict(type='Kaiming', layer='Conv2d')]
    # Of other memory: a model's own comes from no file.
    state = {key: t.clone() for key, t in pretrained(model).items()}

    def init_and_load():
        for module in model.modules():
            if hasattr(module, '_is_init'):
                module._is_init = False
        model.init_weights()
        model.load_state_dict(state, strict=False)

    def recorded():
        nn.Module._load_from_state_dict = RECORDING
        init_and_load()
        assert len(known(ModelTree(model)).records) == len(state)

    def plain():
        nn.Module._load_from_state_dict = ORIGINAL
        init_and_load()

    yield in_turns(
        'record',
        'init_weights() and load_state_dict() of Mask R-CNN, recorded',
        'the same, not recorded',
        1.03,
        recorded,
        plain,
    )
