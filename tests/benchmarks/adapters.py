"""Filling in missing weights, beside a library that does so for years.

`from_pretrained` of Hugging Face's transformers loads what a checkpoint has
and lets the model initialize what it lacks. Each side on its own loader: the
time with new adapters in a ViT, over that with nothing missing.
"""

import statistics
import tempfile
from contextlib import redirect_stderr
from io import StringIO

import torch
import torch.nn as nn
import transformers
from timing import Row, seconds
from transformers import ViTConfig, ViTModel

from mmpartinit import init_modules, record_loads

RULES = [
    dict(
        path='**.adapter',
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    )
]
LAYERS = 12


class Adapted(ViTModel):
    """A ViT-B/16 with an adapter of 0.2 M parameters in each layer."""

    def __init__(self, config, **kwargs) -> None:
        super().__init__(config, **kwargs)
        for layer in layers_of(self):
            layer.adapter = nn.Sequential(
                nn.Linear(768, 128), nn.GELU(), nn.Linear(128, 768)
            )
        self.post_init()


def layers_of(model: nn.Module) -> list:
    """The layers of a ViT, whatever their list is called."""
    return [
        module
        for module in model.modules()
        if type(module).__name__ == 'ViTLayer'
    ]


def rows(turns: int = 9):
    """Time over that of loading with nothing missing."""
    transformers.utils.logging.set_verbosity_error()
    config = ViTConfig()
    with tempfile.TemporaryDirectory() as plain, (
        tempfile.TemporaryDirectory()
    ) as whole, redirect_stderr(StringIO()):
        ViTModel(config).save_pretrained(plain)
        model = Adapted(config)
        assert len(layers_of(model)) == LAYERS
        model.save_pretrained(whole)
        full = model.state_dict()
        partial = {k: v for k, v in full.items() if 'adapter' not in k}

        def theirs(folder):
            return lambda: Adapted.from_pretrained(folder)

        def ours():
            with record_loads(model) as loaded:
                model.load_state_dict(partial, strict=False)
            report = init_modules(model, RULES, loaded=loaded)
            assert report.origins()['rule'] == 4 * LAYERS

        actions = dict(
            theirs=theirs(plain),
            theirs_base=theirs(whole),
            ours=ours,
            ours_base=lambda: model.load_state_dict(full),
        )
        spent = {name: [] for name in actions}
        for turn in range(turns + 1):
            for name, action in actions.items():
                taken = 1e3 * seconds(action)
                if turn:
                    spent[name].append(taken)
    torch.manual_seed(0)
    middle = {name: statistics.median(times) for name, times in spent.items()}
    mine = middle['ours'] - middle['ours_base']
    other = middle['theirs'] - middle['theirs_base']
    yield Row(
        'transformers',
        'initialize new adapters in a ViT-B/16: time over loading alone',
        "the same with transformers' from_pretrained, on its own loader",
        mine / other,
        None,
        mine,
        other,
    )
