"""Real backbones of mmpretrain's and mmsegmentation's, built small.

Each gets adapters in its blocks. Their `init_weights` are of every kind: that
of MMEngine, one that writes to whatever it finds (MiT, ViT), one that loads by
itself (ViT and Swin of mmsegmentation).
"""

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import (
    DATASETS,
    MODELS,
    DefaultScope,
    init_default_scope,
)
from suggestions import findings, replanned, suggested
from torch.utils.data import Dataset
from toy import build_runner, hooks, report_of, same, start_of

from mmpartinit.command.look import look, read_config
from mmpartinit.command.paste import suggest

VIT = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
SWIN = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
FOUR = dict(num_layers=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
# By name: its config, and the class of the blocks that get adapters.
BACKBONES = {
    'mmpretrain.ResNet': (
        dict(depth=18, stem_channels=8, base_channels=8),
        'BasicBlock',
    ),
    'mmpretrain.VisionTransformer': (
        dict(arch=VIT, img_size=64, out_type='featmap'),
        'TransformerEncoderLayer',
    ),
    'mmpretrain.SwinTransformer': (
        dict(arch=SWIN, img_size=64, window_size=2),
        'SwinBlock',
    ),
    'mmpretrain.ConvNeXt': (
        dict(arch=dict(depths=[1, 1, 2, 1], channels=[8, 8, 16, 16])),
        'ConvNeXtBlock',
    ),
    'mmseg.ResNetV1c': (
        dict(depth=18, stem_channels=8, base_channels=8),
        'BasicBlock',
    ),
    'mmseg.MixVisionTransformer': (
        dict(embed_dims=4, **FOUR),
        'TransformerEncoderLayer',
    ),
    'mmseg.VisionTransformer': (
        dict(img_size=64, embed_dims=8, num_layers=2, num_heads=2),
        'TransformerEncoderLayer',
    ),
    'mmseg.SwinTransformer': (
        dict(
            pretrain_img_size=64,
            embed_dims=8,
            depths=SWIN['depths'],
            num_heads=SWIN['num_heads'],
            window_size=2,
        ),
        'SwinBlock',
    ),
}


class Adapter(nn.Module):
    """A plain module, which MMEngine's `init_weights` does not reach."""

    def __init__(self, channels):
        super().__init__()
        self.down = nn.Linear(channels, 4)
        self.up = nn.Linear(4, channels)

    def forward(self, x):
        # Features are (N, C, H, W) or (N, L, C).
        last = x.movedim(1, -1) if x.dim() == 4 else x
        more = self.up(self.down(last).relu())
        return x + (more.movedim(-1, 1) if x.dim() == 4 else more)


def insert_adapters(backbone, kind):
    """Give each block of a kind an adapter behind it."""
    blocks = [m for m in backbone.modules() if type(m).__name__ == kind]

    def measure(block, inputs, out):
        block.adapter = Adapter(out.shape[1 if out.dim() == 4 else -1])

    handles = [block.register_forward_hook(measure) for block in blocks]
    backbone.eval()
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    for block in blocks:
        block.register_forward_hook(lambda b, inputs, out: b.adapter(out))


@MODELS.register_module()
class Adapted(BaseModel):
    """A backbone with adapters, trained to make its features small."""

    def __init__(self, backbone, blocks):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        if blocks:
            insert_adapters(self.backbone, blocks)

    def forward(self, inputs, labels=None, mode='tensor'):
        features = self.backbone(inputs)
        if mode == 'tensor':
            return features
        return dict(loss=sum(f.square().mean() for f in features))


@DATASETS.register_module()
class Images(Dataset):
    metainfo = {}

    def __len__(self):
        return 2

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(3, 64, 64, generator=generator))


@pytest.fixture(
    params=[
        pytest.param(name, marks=getattr(pytest.mark, f'needs_{package}'))
        for name in BACKBONES
        for package in [name.partition('.')[0]]
    ]
)
def plain(request):
    """A pretrained backbone: its name, and the model without adapters."""
    name = request.param
    package = name.partition('.')[0]
    __import__(f'{package}.models')
    settings, _ = BACKBONES[name]
    with DefaultScope.overwrite_default_scope(package):
        torch.manual_seed(1)
        model = Adapted(dict(type=name, **settings), None)
        model.init_weights()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    init_default_scope(package)
    return name, model.eval()


@pytest.fixture(params=['Pretrained', 'load_from'])
def config(request, plain, tmp_path):
    """The keys of a config that puts adapters into it."""
    name, model = plain
    settings, blocks = BACKBONES[name]
    backbone = dict(type=name, **settings)
    path = str(tmp_path / 'weights.pth')
    state = model.state_dict()
    if request.param == 'Pretrained':
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=path)
        # Swin of mmsegmentation takes keys that begin so.
        if name != 'mmseg.SwinTransformer':
            state = model.backbone.state_dict()
    torch.save(dict(state_dict=state), path)
    return dict(
        model=dict(type='Adapted', backbone=backbone, blocks=blocks),
        load_from=path if request.param == 'load_from' else None,
    )


RULES = (
    dict(
        path='backbone.**.adapter.down',
        init_cfg=dict(type='TruncNormal', std=0.02, bias=0.5),
    ),
    dict(
        path='backbone.**.adapter.up', init_cfg=dict(type='Constant', val=0.0)
    ),
)


def train(work_dir, config, *rules):
    package = config['model']['backbone']['type'].partition('.')[0]
    runner = build_runner(
        work_dir,
        **config,
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='Images'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        default_scope=package,
        custom_hooks=hooks(*rules),
    )
    runner.train()
    return runner


def test_what_was_pretrained_is_kept_and_adapters_start_as_told(
    plain, config, work_dir
):
    name, pretrained = plain
    runner = train(work_dir, config, *RULES)
    start = start_of(runner)
    origins = {t.name: t.origin for t in report_of(runner).tensors}
    for key, value in pretrained.state_dict().items():
        assert same(start[key], value), key
        assert origins[key] == 'file', key
    new = set(start) - set(pretrained.state_dict())
    assert len(new) == 4 * len(report_of(runner).rules[0].matched) > 0
    for key in new:
        assert origins[key] == 'rule'
        if '.up.' in key:
            assert start[key].eq(0).all(), key
        elif key.endswith('bias'):
            assert start[key].eq(0.5).all(), key
        else:
            assert 0.005 < start[key].std() < 0.04, key

    # So the network gives what the pretrained one gave.
    settings, blocks = BACKBONES[name]
    model = Adapted(dict(type=name, **settings), blocks)
    model.load_state_dict(start)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found, expected = model.eval()(images), pretrained(images)
    for new_features, features in zip(found, expected):
        assert torch.equal(new_features, features)


def test_suggest_finds_the_adapters_and_nothing_else(config, tmp_path):
    path = tmp_path / 'config.py'
    package = config['model']['backbone']['type'].partition('.')[0]
    Config(dict(config, default_scope=package)).dump(str(path))
    text = suggest(look(read_config(str(path))))
    report = replanned(path, text)
    adapters = {
        t.name.rpartition('.adapter.')[0] + '.adapter'
        for t in report.tensors
        if '.adapter.' in t.name
    }
    matched = [m for rule in report.rules for m in rule.matched]
    assert sorted(matched) == sorted(adapters) and adapters
    assert len(suggested(text)) <= 2
    assert not findings(report)


def test_rules_on_the_whole_backbone_write_the_adapters_alone(
    plain, config, work_dir
):
    rule = dict(path='backbone', init_cfg=dict(type='Constant', val=0.25))
    rule['init_cfg'].update(layer='Linear', bias=0.125)
    start = start_of(train(work_dir, config, rule))
    kept = plain[1].state_dict()
    for key, value in start.items():
        if key in kept:
            assert same(value, kept[key]), key
        else:
            wanted = 0.125 if key.endswith('bias') else 0.25
            assert value.eq(wanted).all(), key
