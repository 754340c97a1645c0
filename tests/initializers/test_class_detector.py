"""A detector of seven digits goes on as one of ten, its classes by name."""

import json
import os.path as osp
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from pages import ROOT

from configs.digits_detection.make_data import make_data
from mmpartinit import CustomModuleInitHook

pytestmark = pytest.mark.needs_mmdet
OLD = [*'0123456']
NEW = ['9', *OLD, '7', '8']


def runner_of(work_dir, classes, iterations, **changes):
    """A Runner of the digits' FCOS, with its own classes."""
    init_default_scope('mmdet')
    data = osp.join(str(work_dir), 'data', '')
    # mmdet numbers classes by the annotations, not by `classes`.
    for part in ('train', 'test'):
        text = Path(f'{data}{part}.json').read_text()
        whole = json.loads(text)
        order = [*classes, *(set(NEW) - set(classes))]
        for entry in whole['categories']:
            entry['id'] = order.index(entry['name'])
        whole['categories'].sort(key=lambda entry: entry['id'])
        for entry in whole['annotations']:
            entry['category_id'] = order.index(str(entry['category_id']))
        Path(f'{data}{part}{len(classes)}.json').write_text(json.dumps(whole))
    cfg = Config.fromfile(ROOT / 'configs' / 'digits_detection' / 'base.py')
    cfg.merge_from_dict(
        {
            'work_dir': osp.join(str(work_dir), f'of_{len(classes)}'),
            'experiment_name': f'of_{len(classes)}_{id(changes)}',
            'model.bbox_head.num_classes': len(classes),
            'train_cfg': dict(
                type='IterBasedTrainLoop',
                max_iters=iterations,
                val_interval=max(iterations, 1),
            ),
            'val_evaluator.ann_file': f'{data}test{len(classes)}.json',
            **changes,
        }
    )
    for part in ('train', 'test'):
        loader = cfg[f'{part.replace("test", "val")}_dataloader']
        loader.dataset.update(
            data_root=data,
            ann_file=f'{part}{len(classes)}.json',
            metainfo=dict(classes=tuple(classes)),
        )
    return Runner.from_cfg(cfg)


def with_rule(**rule):
    return dict(
        custom_hooks=[dict(type='CustomModuleInitHook', modules=[rule])]
    )


def continued(work_dir, file, by_load_from):
    """The detector of ten classes when it starts to train."""
    cfg = dict(type='AdaptedPretrained', checkpoint=file, classes={})
    rule = dict(path='**', init_cfg=cfg)
    if by_load_from:
        rule = dict(path='bbox_head', init_cfg=dict(cfg, prefix='bbox_head'))
    changes = with_rule(**rule)
    if by_load_from:
        changes['load_from'] = file
    # The hooks act before the first iteration, and none follows.
    runner = runner_of(work_dir, NEW, 0, **changes)
    runner.train()
    return runner


@pytest.mark.parametrize('by_load_from', [True, False])
def test_raw_scores_of_old_classes_stay(tmp_path, by_load_from):
    sizes = dict(train=4, few=1, test=2)
    make_data(osp.join(str(tmp_path), 'data', ''), canvases=sizes)
    runner = runner_of(tmp_path, OLD, 2)
    runner.train()
    old = runner.model.eval()
    file = osp.join(str(tmp_path), 'old.pth')
    runner.save_checkpoint(str(tmp_path), 'old.pth', save_optimizer=False)
    runner = continued(tmp_path, file, by_load_from)
    new = runner.model.eval()
    x = torch.randn(1, 3, 96, 96, generator=torch.manual_seed(0))
    rows = [NEW.index(name) for name in OLD]
    with torch.no_grad():
        before, after = old(x, mode='tensor'), new(x, mode='tensor')
    for level in range(2):
        assert after[0][level].shape[1] == 10
        torch.testing.assert_close(
            after[0][level][:, rows], before[0][level], rtol=1e-5, atol=1e-6
        )
        for kind in (1, 2):
            assert after[kind][level].equal(before[kind][level])
    report = next(
        h.report for h in runner.hooks if isinstance(h, CustomModuleInitHook)
    )
    (note,) = (f for f in report.findings if f.code == 'classes')
    assert '7 of 10 rows by name in ' in note.message
    assert 'as the head starts them: 9, 7, 8' in note.message
