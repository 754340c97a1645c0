"""What `mmpartinit suggest` costs beside building the model."""

import copy
import tempfile
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timing import in_turns

from mmpartinit.command import suggest
from mmpartinit.command.look import look
from mmpartinit.command.trying import Tried
from mmpartinit.start import build_model, init_model

NAMES = 'ant bee cat dog elk fox gnu hen ibex jay kite lynx'.split()


class Layer(BaseModule):
    """A transformer's layer, perhaps with a new one beside it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(768, 12, 3072)
        if name:
            self.add_module(name, nn.Linear(768, 768))

    def init_weights(self) -> None:
        """All matrices the same way."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.normal_(module.bias, std=1e-6)


@MODELS.register_module()
class OfNames(BaseModule):
    """A ViT-B whose layers have a new part each, of names of their own."""

    def __init__(self, names, init_cfg=None) -> None:
        super().__init__(init_cfg)
        self.embed = nn.Conv2d(3, 768, 16, 16)
        self.layers = nn.ModuleList(Layer(name) for name in names)


@MODELS.register_module()
class AroundNames(BaseModule):
    """A head on it."""

    def __init__(self, backbone) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(768, 10)


def rows():
    """Against the first build, which it needs as well."""
    MMLogger.get_instance('quiet', log_level='ERROR')  # for both
    suggest.try_out = lambda *_: Tried()
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / 'backbone.pth')
        torch.save(OfNames([''] * len(NAMES)).state_dict(), file)
        init_cfg = dict(type='Pretrained', checkpoint=file)
        backbone = dict(type='OfNames', names=NAMES, init_cfg=init_cfg)
        cfg = Config(dict(model=dict(type='AroundNames', backbone=backbone)))

        def build():
            init_model(build_model(copy.deepcopy(cfg)))

        def ours():
            seen = look(copy.deepcopy(cfg))
            assert len(suggest.Suggester(seen).suggest()) == len(NAMES)

        yield in_turns(
            'suggest',
            'suggest for 12 groups of new layers in a ViT-B, none tried',
            'its first start: built, initialized, backbone loaded from a file',
            2.6,
            ours,
            build,
            turns=5,
        )
