"""The configs of `configs/` train, from the weights that they say.

On small canvases of real digits, for two iterations, with small stand-ins for
the checkpoints: what a checkpoint supplies stays, and the new modules hold
what the config says.
"""

import shutil
from pathlib import Path

import as_process
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from toy import report_of, same, start_of

pytestmark = pytest.mark.needs_mmdet
CONFIGS = Path(__file__).parents[2] / 'configs'


def load(name, work_dir, canvases):
    """A config of ours, on the canvases and for two iterations."""
    cfg = Config.fromfile(str(CONFIGS / f'{name}.py'))
    loader = cfg.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    loader.dataset.update(
        data_root=str(canvases),
        ann_file='train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=None,
        metainfo=dict(classes=tuple('0123456789')),
    )
    for step in loader.dataset.pipeline:
        if 'scale' in step:
            step.scale = (64, 64)
    for part in ('val', 'test'):
        for key in ('cfg', 'dataloader', 'evaluator'):
            cfg[f'{part}_{key}'] = None
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    cfg.param_scheduler = None
    cfg.default_hooks = dict(checkpoint=None)
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='Witness')]
    return cfg


def stand_in(model_cfg):
    """Weights of a model without new modules, other than a fresh one's."""
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        state = MODELS.build(model_cfg).state_dict()
    for value in state.values():
        if value.is_floating_point():
            value.mul_(0.5).add_(0.01)
    return state


def train(cfg):
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    return runner


def check_pretrained(cfg, work_dir, **plain):
    """Train with a stand-in for the backbone's checkpoint."""
    backbone = dict(cfg.model.backbone, init_cfg=None, **plain)
    for key in ('plugins', 'adapter_dims'):
        backbone.pop(key, None)
    state = stand_in(backbone)
    path = f'{work_dir}.pth'
    prefix = 'backbone.' if 'Swin' in str(backbone['type']) else ''
    torch.save({prefix + key: value for key, value in state.items()}, path)
    cfg.model.backbone.init_cfg.checkpoint = path
    runner = train(cfg)
    start = start_of(runner)
    for name, value in state.items():
        assert same(start[f'backbone.{name}'], value), name
    origins = [tensor.origin for tensor in report_of(runner).tensors]
    assert origins.count('file') == len(state)
    assert not [f for f in report_of(runner).findings if f.level == 'warning']
    return start


def test_context_blocks_by_path(work_dir, canvases):
    cfg = load('faster-rcnn_r50_fpn_gcb_coco', work_dir, canvases)
    start = check_pretrained(cfg, work_dir)
    blocks = [name for name in start if '.context_block.' in name]
    assert len(blocks) == 13 * 8
    for name in blocks:
        zero = 'channel_add_conv.3' in name or name.endswith('bias')
        assert bool(start[name].eq(0).all()) is zero, name


@pytest.mark.parametrize('form', ['', '_pure'], ids=['classic', 'pure'])
def test_se_in_every_bottleneck_starts_near_identity(work_dir, canvases, form):
    cfg = load(f'retinanet_r50-se_fpn_coco{form}', work_dir, canvases)
    start = check_pretrained(cfg, work_dir)
    last = [name for name in start if '.se.fc2.' in name]
    assert len(last) == 16 * 2
    for name in last:
        value = 4 if name.endswith('bias') else 0
        assert start[name].eq(value).all(), name
    assert start['backbone.layer1.0.se.fc1.bias'].eq(0).all()


def test_adapters_in_swin_start_as_nothing(work_dir, canvases):
    cfg = load('retinanet_swin-t-adapter_fpn_coco', work_dir, canvases)
    cfg.model.backbone.convert_weights = False  # the stand-in is mmdet's
    start = check_pretrained(cfg, work_dir, type='SwinTransformer')
    up = [name for name in start if '.adapter.up.' in name]
    assert len(up) == 12 * 2
    assert all(start[name].eq(0).all() for name in up)
    down = [n for n in start if n.endswith('.adapter.down.weight')]
    assert len(down) == 12
    for name in down:
        assert start[name].std().item() == pytest.approx(0.02, rel=0.2), name


def test_a_head_for_other_classes_starts_anew(work_dir, canvases):
    cfg = load('faster-rcnn_r50_fpn_new-classes', work_dir, canvases)
    trained = dict(cfg.model)
    trained['roi_head'] = dict(cfg.model.roi_head)
    trained['roi_head']['bbox_head'] = dict(
        cfg.model.roi_head.bbox_head, num_classes=80
    )
    state = stand_in(trained)
    cfg.load_from = f'{work_dir}.pth'
    torch.save(dict(state_dict=state), cfg.load_from)
    cfg.model.roi_head.bbox_head.num_classes = 10
    runner = train(cfg)
    start = start_of(runner)
    for name, value in state.items():
        if not name.startswith('roi_head.bbox_head'):
            assert same(start[name], value), name
    head = 'roi_head.bbox_head'
    assert start[f'{head}.fc_cls.weight'].shape == (11, 1024)
    assert start[f'{head}.fc_cls.weight'].std().item() == pytest.approx(
        0.01, rel=0.1
    )
    shared = f'{head}.shared_fcs.0.weight'
    assert not same(start[shared], state[shared])
    codes = [finding.code for finding in report_of(runner).findings]
    assert codes == ['shape', 'overwritten']


def test_every_config_is_tested():
    names = {path.stem for path in CONFIGS.glob('*.py')}
    text = Path(__file__).read_text()
    for name in names:
        assert name.replace('_pure', '') in text, name


@pytest.mark.parametrize('path', CONFIGS.glob('*.py'), ids=lambda p: p.stem)
def test_a_config_can_be_copied(path, tmp_path):
    """Into mmdetection's checkout, say, which has a folder `configs` too."""
    site, checkout = tmp_path / 'site', tmp_path / 'checkout'
    site.mkdir()
    (site / 'mmpartinit').symlink_to(CONFIGS.parent / 'mmpartinit')
    folder = checkout / 'configs' / 'retinanet'
    folder.mkdir(parents=True)
    (folder / 'retinanet_tta.py').write_text('tta_model = None\n')
    config = shutil.copy(path, folder)
    done = as_process.run(
        'plan', config, '--no-weights', cwd=checkout, PYTHONPATH=str(site)
    )
    assert done.returncode == 0, done.stdout + done.stderr
