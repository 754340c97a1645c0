"""Real models of mmdet's: backbones that load by themselves, and detectors."""

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import (
    DATASETS,
    MODELS,
    DefaultScope,
    init_default_scope,
)
from mmengine.runner import Runner
from torch.utils.data import Dataset
from toy import (
    build_runner,
    hooks,
    report_of,
    runner_cfg,
    same,
    snapshot,
    start_of,
)

from mmpartinit import init_modules

pytestmark = pytest.mark.needs_mmdet


@MODELS.register_module()
class BackboneModel(BaseModel):
    """A real backbone of mmdet's, trained to make its features small."""

    def __init__(self, backbone) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.extra = nn.Linear(1, 1)

    def forward(self, inputs, labels=None, mode='tensor'):
        features = self.backbone(inputs)
        loss = sum(feature.square().mean() for feature in features)
        return dict(loss=self.extra(loss.view(1, 1)).square().mean())


@DATASETS.register_module()
class Noise(Dataset):
    metainfo = {}

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(inputs=torch.randn(3, 64, 64))


RESNET = dict(type='mmdet.ResNet', depth=18)
SWIN = dict(
    type='mmdet.SwinTransformer',
    embed_dims=8,
    depths=(1, 1),
    num_heads=(1, 2),
    strides=(4, 2),
    out_indices=(0, 1),
)
PVT = dict(
    type='mmdet.PyramidVisionTransformer',
    embed_dims=8,
    num_stages=2,
    num_layers=(1, 1),
    num_heads=(1, 2),
    patch_sizes=(4, 2),
    strides=(4, 2),
    paddings=(0, 0),
    sr_ratios=(4, 2),
    out_indices=(0, 1),
    pretrain_img_size=64,
)


def build_alone(backbone):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(backbone)


@pytest.mark.parametrize('ema', [False, True], ids=['plain', 'EMAHook'])
@pytest.mark.parametrize('through', ['Pretrained', 'load_from'])
@pytest.mark.parametrize(
    'backbone', [RESNET, SWIN, PVT], ids=['ResNet', 'Swin', 'PVT']
)
def test_what_mmdets_backbones_load_is_known_and_kept(
    backbone, through, ema, work_dir, tmp_path
):
    """Swin and PVT load by themselves, in ways of their own."""
    init_default_scope('mmdet')
    torch.manual_seed(1)
    state = build_alone(backbone).state_dict()
    # Something is missing, and something has another shape.
    names = [n for n, v in state.items() if n.endswith('.weight')]
    missing, mismatched = names[-1], names[-2]
    file = {k: v for k, v in state.items() if k != missing}
    if backbone is SWIN and through == 'Pretrained':
        mismatched = missing  # its own loader stops at another shape
    else:
        file[mismatched] = torch.zeros(5, 4)
    path = str(tmp_path / 'backbone.pth')
    cfg = dict(backbone)
    if through == 'Pretrained':
        cfg['init_cfg'] = dict(type='Pretrained', checkpoint=path)
    if through == 'load_from' or backbone is SWIN:  # which takes such keys
        file = {f'backbone.{k}': v for k, v in file.items()}
    torch.save(dict(state_dict=file), path)
    rule = dict(path='backbone', init_cfg=dict(type='Constant', val=0.25))
    custom_hooks = hooks(rule)
    if ema:
        custom_hooks.insert(0, dict(type='EMAHook'))
    runner = build_runner(
        work_dir,
        model=dict(type='BackboneModel', backbone=cfg),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='Noise'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        default_scope='mmdet',
        custom_hooks=custom_hooks,
        load_from=path if through == 'load_from' else None,
    )
    runner.train()
    start = start_of(runner)
    origins = {t.name: t.origin for t in report_of(runner).tensors}
    for name, value in state.items():
        if name in (missing, mismatched):
            assert origins[f'backbone.{name}'] == 'rule', name
            assert start[f'backbone.{name}'].eq(0.25).all(), name
        else:
            assert origins[f'backbone.{name}'] == 'file', name
            assert same(start[f'backbone.{name}'], value), name


def build_detector(name):
    """A detector from a config of mmdet's, without weights."""
    import mmdet

    cfg = Config.fromfile(f'{mmdet.__path__[0]}/.mim/configs/{name}.py')
    with_weights = cfg.model.get('detector', cfg.model)
    with_weights.backbone.init_cfg = None
    init_default_scope('mmdet')
    return MODELS.build(cfg.model)


def test_mask_rcnn_with_13_context_blocks():
    model = build_detector('gcnet/mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco')
    before = snapshot(model)
    loaded = {n for n in before if 'context_block' not in n}
    rules = [
        dict(
            path='**.context_block',
            init_cfg=[
                dict(type='TruncNormal', layer='Conv2d', std=0.02),
                dict(type='Constant', layer='LayerNorm', val=1),
            ],
        ),
        dict(
            path='backbone.layer[2-4].*.context_block.channel_add_conv.3',
            init_cfg=dict(type='Constant', val=0),
        ),
        # the whole model: nothing but the blocks is new
        dict(path='**', init_cfg=dict(type='Xavier', layer='Conv2d', bias=1)),
    ]
    report = init_modules(model, rules, loaded=loaded, seed=1)
    assert [len(rule.matched) for rule in report.rules] == [13, 13, 1]
    assert [len(rule.wrote) for rule in report.rules] == [104, 26, 78]
    for name, value in model.state_dict().items():
        if name in loaded:
            assert same(value, before[name]), name
    assert report.origins() == dict(
        file=len(loaded), code=0, rule=104, built=0
    )


def test_bare_parameters_and_shared_heads_of_deformable_detr():
    model = build_detector(
        'deformable_detr/deformable-detr_r50_16xb2-50e_coco'
    )
    assert isinstance(model.level_embed, nn.Parameter)
    branches = model.bbox_head.cls_branches
    rules = [
        dict(path='level_embed', init_cfg=dict(type='Normal', std=0.5)),
        dict(
            path='bbox_head.cls_branches.*',
            init_cfg=dict(type='Constant', val=0, bias_prob=0.01),
        ),
        dict(
            path='**.self_attn.**.in_proj_weight', init_cfg=dict(type='Xavier')
        ),
    ]
    report = init_modules(model, rules, seed=1)
    assert model.level_embed.std().item() == pytest.approx(0.5, rel=0.1)
    # One layer in six places is one match, under its first name.
    assert len({id(branch) for branch in branches}) == 1
    assert report.rules[1].matched == ['bbox_head.cls_branches.0']
    assert branches[5].bias[0].item() == pytest.approx(-4.595, abs=1e-3)
    assert len(report.rules[2].wrote) == 6


def test_a_mean_teacher_gets_the_students_new_modules(work_dir):
    model = build_detector(
        'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco'
    )
    for part in (model.student, model.teacher):
        part.neck.adapter = nn.Linear(4, 4)

    class Stop(Hook):
        priority = 'LOWEST'

        def before_train(self, runner):
            runner.train_loop.stop_training = True

    rule = dict(
        path='student.neck.adapter',
        init_cfg=dict(type='Constant', val=0.25, bias=2),
    )
    cfg = runner_cfg(
        work_dir,
        model=model,
        train_cfg=dict(by_epoch=False, max_iters=1),
        log_processor=dict(by_epoch=False),
        default_hooks=dict(checkpoint=None),
        default_scope='mmdet',
        custom_hooks=[dict(type='mmdet.MeanTeacherHook'), *hooks(rule)],
    )
    runner = Runner(**cfg)  # not by Config, for the model is built
    runner.register_hook(Stop())
    runner.train()
    assert runner.iter == 0
    teacher = runner.model.teacher.neck.adapter
    assert teacher.weight.eq(0.25).all() and teacher.bias.eq(2).all()
    # and the frozen teacher is no mistake of the rule's
    codes = [finding.code for finding in report_of(runner).findings]
    assert 'frozen' not in codes
