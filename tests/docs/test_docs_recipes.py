"""The recipes of the page, each on a model that it is about.

How they go through a Runner is tested in test_recipes.py.
"""

import pytest
import torch
import torch.nn as nn
from mmengine.config import ConfigDict
from mmengine.model import initialize
from pages import codes
from test_docs_code import pages, rules_of, run
from toy import build_runner, pretrained, same, snapshot, start_of
from videos import as_mmaction2, resnet50

from mmpartinit import init_modules, record_loads
from mmpartinit.demo.digits import SmallResNet

recipes = pages('recipes')


def carry_out(page, number, model, loaded=()):
    """Apply a recipe; gives the values before, and names that it wrote."""
    before = snapshot(model)
    rules = rules_of(run(page.blocks('python')[number]))
    report = init_modules(model, rules, loaded=loaded)
    for name, value in before.items():
        # Norm layers count; nothing else moves that no rule wrote.
        if name not in report_names(report) and 'num_batches' not in name:
            assert same(model.state_dict()[name], value), name
    return before, report_names(report)


def report_names(report):
    return {
        tensor.name for tensor in report.tensors if tensor.rule is not None
    }


def parts(**modules):
    return nn.ModuleDict(modules)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Saves what the recipes load, in a folder `weights`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'weights').mkdir()

    def save(name, state):
        torch.save(state, tmp_path / 'weights' / f'{name}.pth')
        return state

    return save


def values_of(module, shift):
    return {
        name: value + shift if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }


@recipes
@pytest.mark.parametrize('number', [0, 1])
def test_attention_blocks(page, number):
    model = parts(backbone=SmallResNet(with_se=True))
    old = {name for name in model.state_dict() if '.se.' not in name}
    _, wrote = carry_out(page, number, model, old)
    assert wrote == set(model.state_dict()) - old
    gate = model['backbone'].layer1[0].se.fc2
    assert gate.bias.eq(0 if number else 4).all()


@recipes
def test_other_backbone_weights(page, weights):
    model = parts(backbone=SmallResNet(), head=nn.Linear(4, 4))
    state = weights('backbone', values_of(model['backbone'], 1))
    carry_out(page, 2, model, set(model.state_dict()))
    for name, value in state.items():
        assert same(model['backbone'].state_dict()[name], value), name


@recipes
def test_two_checkpoints(page, weights):
    model = parts(backbone=SmallResNet(), decode_head=nn.Conv2d(4, 4, 1))
    a = weights('a', values_of(model, 1))
    b = weights('b', values_of(model, -1))
    carry_out(page, 3, model)
    for name, value in model.state_dict().items():
        assert same(value, (a if 'backbone' in name else b)[name]), name


@pytest.mark.needs_mmdet
@recipes
def test_a_head_anew(page):
    from mmdet.models import RetinaHead

    head = RetinaHead(num_classes=3, in_channels=16, feat_channels=16)
    model = parts(backbone=SmallResNet(), bbox_head=head)
    _, wrote = carry_out(page, 4, model, set(model.state_dict()))
    assert wrote == {n for n in model.state_dict() if n.startswith('bbox')}
    # As its own init_cfg says: the prior of the focal loss.
    assert head.retina_cls.bias.eq(head.retina_cls.bias[0]).all()
    assert head.retina_cls.bias[0].item() == pytest.approx(-4.595, abs=1e-3)


@recipes
def test_a_second_branch(page):
    model = parts(backbone=SmallResNet(), backbone_depth=SmallResNet())
    old = {n for n in model.state_dict() if n.startswith('backbone.')}
    _, wrote = carry_out(page, 5, model, old)
    assert wrote == set(model.state_dict()) - old
    for name, value in model['backbone'].state_dict().items():
        assert same(model['backbone_depth'].state_dict()[name], value), name


@recipes
def test_experts_of_their_own_layers(page):
    layers = nn.ModuleList(
        parts(
            mlp=nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)),
            experts=nn.ModuleList(
                nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
                for _ in range(3)
            ),
        )
        for _ in range(2)
    )
    model = parts(backbone=parts(layers=layers))
    old = {name for name in model.state_dict() if '.mlp.' in name}
    _, wrote = carry_out(page, 6, model, old)
    assert wrote == set(model.state_dict()) - old
    x = torch.randn(3, 4)
    for layer in layers:
        assert all(
            expert(x).equal(layer['mlp'](x)) for expert in layer['experts']
        )
    assert not layers[0]['mlp'](x).equal(layers[1]['mlp'](x))


@pytest.mark.needs_mmdet
@recipes
def test_five_channels(page, weights):
    from mmdet.models import ResNet

    state = weights('r18', values_of(ResNet(18), 1))
    names, file = run(page.blocks('python')[7]), 'weights/r18.pth'
    # As mmdet's configs have it.
    cfg = dict(init_cfg=dict(type='Pretrained', checkpoint=file))
    cfg.update(names['model']['backbone'])
    backbone = ResNet(18, **cfg)
    with record_loads(parts(backbone=backbone)) as loaded:
        backbone.init_weights()
    rules = rules_of(names)
    rules[0]['init_cfg']['checkpoint'] = file
    report = init_modules(parts(backbone=backbone), rules, loaded=loaded)
    assert report_names(report) == {'backbone.conv1.weight'}
    assert same(backbone.conv1.weight[:, :3], state['conv1.weight'])
    assert backbone.conv1.weight[:, 3:].eq(0).all()
    assert same(backbone.bn1.weight, state['bn1.weight'])


@pytest.mark.needs_mmdet
@recipes
def test_five_channels_of_swin(page, weights):
    from mmdet.models import SwinTransformer

    small = dict(embed_dims=12, depths=(1, 1), num_heads=(1, 2))
    small.update(strides=(4, 2), out_indices=(0, 1))
    state = weights('swin', values_of(SwinTransformer(**small), 1))
    # By itself it cannot load a file of which a shape differs.
    weights('whole', {f'backbone.{k}': v for k, v in state.items()})
    cfg = ConfigDict(type='Pretrained', checkpoint='weights/whole.pth')
    with pytest.raises(RuntimeError, match='size mismatch'):
        SwinTransformer(in_channels=5, init_cfg=cfg, **small).init_weights()
    model = parts(backbone=SwinTransformer(in_channels=5, **small))
    carry_out(page, 8, model)
    name = 'patch_embed.projection.weight'
    adapted = model['backbone'].state_dict()[name]
    assert same(adapted[:, 3:], adapted[:, :2])
    torch.testing.assert_close(adapted[:, :3], state[name] * 3 / 5)


@recipes
def test_names_that_start_in_another_way(page, weights):
    model = parts(backbone=SmallResNet())
    state = values_of(model['backbone'], 1)
    weights('moco', {f'module.encoder_q.{k}': v for k, v in state.items()})
    carry_out(page, 9, model)
    for name, value in state.items():
        assert same(model['backbone'].state_dict()[name], value), name


class ViT(nn.Module):
    """With the names of timm, or those of mmpretrain."""

    def __init__(self, proj, blocks, norm, last, fc1, fc2):
        super().__init__()
        self.cls_token = nn.Parameter(torch.ones(1, 1, 4))
        self.patch_embed = parts(**{proj: nn.Conv2d(3, 4, 2)})
        layers = nn.ModuleList()
        for _ in range(2):
            layer = parts(attn=parts(qkv=nn.Linear(4, 12)))
            layer['attn']['proj'] = nn.Linear(4, 4)
            layer[f'{norm}1'], layer[f'{norm}2'] = (
                nn.LayerNorm(4) for _ in 'ab'
            )
            add(layer, fc1, nn.Linear(4, 8))
            add(layer, fc2, nn.Linear(8, 4))
            layers.append(layer)
        self.add_module(blocks, layers)
        self.add_module(last, nn.LayerNorm(4))


def add(module, path, layer):
    """Add a layer at a path, with modules on the way where there are none."""
    *way, last = path.split('.')
    for name in way:
        if name not in module._modules:
            module.add_module(name, nn.Module())
        module = module._modules[name]
    module.add_module(last, layer)


@recipes
def test_other_names(page, weights):
    timm = ViT('proj', 'blocks', 'norm', 'norm', 'mlp.fc1', 'mlp.fc2')
    ours = ViT(
        *('projection', 'layers', 'ln', 'ln1'),
        *('ffn.layers.0.0', 'ffn.layers.1'),
    )
    for value in timm.state_dict().values():
        value.normal_()
    weights('vit_timm', {**timm.state_dict(), 'head.weight': torch.ones(2)})
    model = parts(backbone=ours)
    _, wrote = carry_out(page, 10, model)
    assert wrote == set(model.state_dict())
    pairs = zip(timm.state_dict().values(), ours.state_dict().values())
    assert all(same(old, new) for old, new in pairs)


@recipes
def test_from_images_to_videos(page, weights):
    state = weights('r50', resnet50(2).state_dict())
    names = run(page.blocks('python')[11])
    rules = rules_of(names)
    rules[0]['init_cfg']['checkpoint'] = 'weights/r50.pth'
    model = parts(backbone=resnet50(3))
    report = init_modules(model, rules)
    assert report_names(report) == set(model.state_dict())
    for name, value in as_mmaction2(model['backbone'], state).items():
        assert same(model['backbone'].state_dict()[name], value), name


@pytest.mark.needs_mmdet
@recipes
def test_other_classes(page, weights):
    from mmdet.models import FCOSHead

    names = ['person', 'car', 'bus']
    old = parts(bbox_head=FCOSHead(3, 4, feat_channels=4, norm_cfg=None))
    for parameter in old.parameters():
        nn.init.normal_(parameter)
    meta = dict(dataset_meta=dict(classes=tuple(names)))
    weights('old_detector', dict(state_dict=old.state_dict(), meta=meta))
    head = FCOSHead(4, 4, feat_channels=4, norm_cfg=None)
    model = parts(bbox_head=head)
    before, wrote = carry_out(page, 12, model)
    assert wrote == set(model.state_dict())
    for key in ('weight', 'bias'):
        name = f'bbox_head.conv_cls.{key}'
        rows = old.state_dict()[name]
        assert same(model.state_dict()[name][:3], rows[[1, 2, 0]])
        assert same(model.state_dict()[name][3], before[name][3])


@recipes
def test_a_block_that_changes_nothing(page):
    model = parts(neck=parts(mix=nn.Conv2d(4, 4, 3, padding=1)))
    carry_out(page, 13, model)
    x = torch.randn(2, 4, 6, 6)
    assert model['neck']['mix'](x).equal(x)


@pages('faq')
def test_what_is_asked_elsewhere(page, weights):
    rows = [row for row in page.rows() if len(row) == 3]
    given = [
        eval(code) for *_, cell in rows for code in codes(cell) if '(' in code
    ]
    whole, vit, inner, norm = given
    net = SmallResNet()
    state = values_of(net, 1)

    weights('model', {f'backbone.{k}': v for k, v in state.items()})
    initialize(net, whole)
    assert all(same(v, state[k]) for k, v in net.state_dict().items())
    report = init_modules(parts(backbone=SmallResNet()), [vit])
    assert report_names(report) == {f'backbone.{k}' for k in state}

    model = parts(backbone=parts(backbone=SmallResNet(), arm=nn.Linear(2, 2)))
    weights('stdc2', state)
    report = init_modules(model, [inner])
    assert report_names(report) == {f'backbone.backbone.{k}' for k in state}

    stages = {f'norm{i}': nn.LayerNorm(2 << i) for i in range(4)}
    model = parts(backbone=parts(**stages))
    last = weights('swin', dict(parts(norm=nn.LayerNorm(16)).state_dict()))
    last['norm.weight'] += 1
    weights('swin', last)
    report = init_modules(model, [norm])
    names = {f'backbone.norm3.{key}' for key in ('weight', 'bias')}
    assert report_names(report) == names
    assert model['backbone']['norm3'].weight.eq(2).all()


@pytest.mark.needs_mmdet
@recipes
def test_a_stage_from_scratch(page):
    from mmdet.models import ResNet

    model = parts(backbone=ResNet(18))
    model.load_state_dict(values_of(model, 3))
    _, wrote = carry_out(page, 14, model, set(model.state_dict()))
    stage = {n for n in model.state_dict() if '.layer4.' in n}
    assert wrote == stage
    norm = model['backbone'].layer4[1].bn2
    assert norm.weight.eq(1).all() and norm.running_mean.eq(0).all()


@recipes
def test_orthogonal_weights(page):
    attn = nn.MultiheadAttention(8, 2)
    neck = parts(mlp=nn.Linear(8, 4), gru=nn.GRU(8, 8, 2), attn=attn)
    model = parts(neck=neck)
    carry_out(page, 15, model)
    for weight in (neck['mlp'].weight.T, neck['gru'].weight_hh_l1):
        square = weight.T @ weight
        torch.testing.assert_close(square, torch.eye(len(square)))
    square = attn.in_proj_weight.T @ attn.in_proj_weight
    torch.testing.assert_close(square, torch.eye(8))


@recipes
@pytest.mark.parametrize('number', [0, 1])
def test_training_only_what_is_new(page, number, work_dir, tmp_path):
    state = pretrained(tmp_path / 'weights.pth')
    blocks = [b for b in page.blocks('python') if 'freeze=' in b]
    custom_hooks = run(blocks[number])['custom_hooks']
    runner = build_runner(
        work_dir,
        custom_hooks=[*custom_hooks, dict(type='Witness')],
        # Batch norm takes the gradient of a bias away; this moves it.
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1)
        ),
        load_from=str(tmp_path / 'weights.pth'),
    )
    runner.train()
    start, now = start_of(runner), runner.model.state_dict()
    paths = ('backbone.stem', 'backbone.layer1', 'head')
    for name, value in start.items():
        still = name.startswith(paths) if number else name in state
        assert same(now[name], value) is still, name
