"""A detector of seven digits goes on as one of ten, its classes by name."""

import os.path as osp

import pytest
import torch
from detectors import MODELS, average_precisions, runner_of

from configs.digits_detection.make_data import make_data
from mmpartinit import CustomModuleInitHook

pytestmark = pytest.mark.needs_mmdet
OLD = [*'0123456']
NEW = ['9', *OLD, '7', '8']


def trained(name, work_dir, canvases, iterations, **changes):
    """The detector of seven classes, and its file."""
    sizes = dict(train=canvases, few=1, test=canvases)
    # In eight canvases of this seed there is each of the old classes.
    make_data(osp.join(str(work_dir), 'data', ''), 1, canvases=sizes)
    runner = runner_of(name, work_dir, OLD, iterations, NEW, **changes)
    runner.train()
    runner.save_checkpoint(str(work_dir), 'old.pth', save_optimizer=False)
    return runner, osp.join(str(work_dir), 'old.pth')


def continued(name, work_dir, file, by_load_from):
    """The detector of ten classes when it starts to train."""
    cfg = dict(type='AdaptedPretrained', checkpoint=file, classes={})
    rule = dict(path='**', init_cfg=cfg)
    changes = dict(load_from=file) if by_load_from else {}
    hook = dict(type='CustomModuleInitHook', modules=[rule])
    # The hooks act before the first iteration, and none follows.
    runner = runner_of(
        name, work_dir, NEW, 0, NEW, custom_hooks=[hook], **changes
    )
    runner.train()
    return runner


@pytest.mark.parametrize('by_load_from', [True, False])
def test_raw_scores_of_old_classes_stay(tmp_path, by_load_from):
    runner, file = trained('FCOS', tmp_path, 4, 2)
    old = runner.model.eval()
    runner = continued('FCOS', tmp_path, file, by_load_from)
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


@pytest.mark.parametrize('name', MODELS)
def test_the_old_classes_are_found_as_before(tmp_path, name):
    faster = {'optim_wrapper.optimizer.lr': 1e-3}
    runner, file = trained(name, tmp_path, 8, 150, **faster)
    before = average_precisions(runner, OLD)
    # The file has what is put in by code as well: offsets of DINO.
    going_on = continued(name, tmp_path, file, True)
    after = average_precisions(going_on, OLD)
    assert (before > 0).all()
    layers = []
    # New classes have a share in R-CNN's softmax, and in what DINO chooses
    # among, which moves single boxes of so few past a threshold; without them,
    # all is as it was.
    if 'R-CNN' in name:
        layers = [going_on.model.roi_head.bbox_head.fc_cls]
    elif name == 'DINO':
        layers = going_on.model.bbox_head.cls_branches
    if layers:
        assert after.mean() == pytest.approx(before.mean(), abs=0.1)
        for layer in layers:
            silence(layer)
        after = average_precisions(going_on, OLD)
    assert after == pytest.approx(before, abs=1e-6)


def silence(layer):
    """Give the classes that are new no score."""
    rows = [NEW.index(name) for name in set(NEW) - set(OLD)]
    with torch.no_grad():
        layer.weight[rows] = 0.0
        layer.bias[rows] = -1e4
