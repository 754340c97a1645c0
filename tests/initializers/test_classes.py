"""AdaptedPretrained(classes=...): rows go by the names of classes."""

from collections import OrderedDict

import pytest
import torch
import torch.nn as nn
from heads import ALL, SSD, form_of, head_of
from mmengine.config import ConfigDict
from mmengine.model import BaseModule, initialize
from toy import same, snapshot

from mmpartinit import RuleError, init_modules, plan_init
from mmpartinit.initializers.around import known
from mmpartinit.start import train_classes

pytestmark = pytest.mark.needs_mmdet
OLD = [*'0123456']
NEW = ['9', *OLD, '7', '8']


def saved(tmp_path, model, **meta):
    file = str(tmp_path / 'old.pth')
    torch.save(dict(state_dict=model.state_dict(), meta=meta), file)
    return file


def by_name(file, classes, **others):
    return dict(
        type='AdaptedPretrained', checkpoint=file, classes=classes, **others
    )


def expected(form, old, held, names, has):
    """Rows by plain loops: ``form`` says in what groups they lie."""
    outer, background, inner = form
    result = held.clone()
    for a in range(outer):
        for row, name in enumerate(names):
            for i in range(inner):
                if name not in has:
                    continue
                there = a * (len(has) + background) + has.index(name)
                here = a * (len(names) + background) + row
                result[here * inner + i] = old[there * inner + i]
        if background:
            there = (a + 1) * (len(has) + 1) - 1
            here = (a + 1) * (len(names) + 1) - 1
            result[here] = old[there]
    return result


@pytest.mark.parametrize('name', ALL)
def test_rows_are_those_of_plain_loops(tmp_path, name):
    old, model = head_of(name, 7), head_of(name, 10)
    file = saved(tmp_path, old, dataset_meta=dict(classes=tuple(OLD)))
    before, there = snapshot(model), old.state_dict()
    report = init_modules(
        model,
        [
            dict(
                path='bbox_head',
                init_cfg=by_name(file, NEW, prefix='bbox_head'),
            )
        ],
    )
    differing = 0
    for key, value in model.state_dict().items():
        if value.shape == there[key].shape:
            assert same(value, there[key]), key
            continue
        differing += 1
        form = form_of(name, key)
        wanted = expected(form, there[key], before[key], NEW, OLD)
        assert same(value, wanted), key
    assert differing
    (note,) = (f for f in report.findings if f.code == 'classes')
    assert ' gives 7 of 10 rows by name in ' in note.message


def test_a_tensor_under_several_names_is_given_once(tmp_path):
    old, model = (
        head_of('DeformableDETRHead', 7),
        head_of('DeformableDETRHead', 10),
    )
    file = saved(tmp_path, old, CLASSES=OLD)
    report = init_modules(
        model, [dict(path='**', init_cfg=by_name(file, NEW))]
    )
    branches = model.bbox_head.cls_branches
    assert branches[0] is branches[1]
    assert same(branches[1].weight[1:8], old.bbox_head.cls_branches[0].weight)
    (note,) = (f for f in report.findings if f.code == 'classes')
    assert ' gives 7 of 10 rows by name in ' in note.message
    assert note.message.count('cls_branches') == 2  # weight and bias


def test_names_in_the_file_are_changed_first(tmp_path):
    old, model = head_of('FCOSHead', 7), head_of('FCOSHead', 10)
    state = {
        'module.' + k.replace('bbox_head', 'head'): v
        for k, v in old.state_dict().items()
    }
    torch.save(dict(state_dict=state), str(tmp_path / 'w.pth'))
    cfg = by_name(
        str(tmp_path / 'w.pth'),
        dict(old=OLD, new=NEW),
        revise_keys=[('^head', 'bbox_head')],
    )
    init_modules(model, [dict(path='**', init_cfg=cfg)])
    conv = model.bbox_head.conv_cls
    assert same(conv.weight[1:8], old.bbox_head.conv_cls.weight)


def reordered(tmp_path, new):
    """A head that was loaded as it is, and the rule that names it."""
    old, model = head_of('FCOSHead', 3), head_of('FCOSHead', 3)
    model.load_state_dict(old.state_dict())
    file = saved(tmp_path, old, dataset_meta=dict(classes=['a', 'b', 'c']))
    rule = dict(
        path='bbox_head', init_cfg=by_name(file, new, prefix='bbox_head')
    )
    return old, model, rule


def test_what_was_loaded_in_another_order_needs_overwrite(tmp_path):
    old, model, rule = reordered(tmp_path, ['c', 'a', 'b'])
    loaded = list(model.state_dict())
    with pytest.raises(RuleError, match='overwrite=True the rows go') as info:
        plan_init(model, [rule], loaded=loaded)
    (finding,) = info.value.findings
    assert finding.code == 'kept-classes'
    assert finding.names == [
        'bbox_head.conv_cls.weight',
        'bbox_head.conv_cls.bias',
    ]
    init_modules(model, [dict(rule, overwrite=True)], loaded=loaded)
    rows = old.bbox_head.conv_cls.weight[[2, 0, 1]]
    assert same(model.bbox_head.conv_cls.weight, rows)


def test_a_row_that_another_class_was_loaded_into_starts_anew(tmp_path):
    old, model, rule = reordered(tmp_path, ['a', 'new', 'c'])
    init_modules(
        model, [dict(rule, overwrite=True)], loaded=list(model.state_dict())
    )
    conv, was = model.bbox_head.conv_cls, old.bbox_head.conv_cls
    assert same(conv.weight[[0, 2]], was.weight[[0, 2]])
    assert same(conv.bias[[0, 2]], was.bias[[0, 2]])
    # As FCOSHead's init_cfg has it.
    assert conv.bias[1].item() == pytest.approx(-4.595, abs=1e-3)
    assert 0 < conv.weight[1].std() < 0.03


class Known(BaseModule):
    def __init__(self):
        super().__init__()
        self.num_classes = 3
        self.fc = nn.Linear(4, 3)


@pytest.mark.parametrize(
    'meta, classes, told',
    [
        ({}, ['a'], 'names of its classes are not in it '),
        (dict(dataset_meta=dict(classes=OLD)), {}, 'there is no config to'),
        (
            dict(dataset_meta=dict(classes=OLD)),
            ['a', 'b'],
            'none of the class',
        ),
        (dict(CLASSES=OLD), NEW[:9], '7 classes there and 9 here do not make'),
        (
            dict(CLASSES=OLD[:6]),
            NEW,
            '6 classes there and 10 here do not make',
        ),
        (dict(CLASSES=['0'] * 7), NEW, 'its own names are to tell classes'),
    ],
)
def test_what_cannot_be_is_an_error(tmp_path, meta, classes, told):
    old, model = head_of('FCOSHead', 7), head_of('FCOSHead', 10)
    before = snapshot(model)
    file = saved(tmp_path, old, **meta)
    with pytest.raises(RuleError, match=told):
        init_modules(model, [dict(path='**', init_cfg=by_name(file, classes))])
    for name, value in model.state_dict().items():
        assert same(value, before[name]), name


def test_heads_that_are_not_known_are_an_error_of_the_plan(tmp_path):
    file = saved(tmp_path, nn.Linear(1, 1))
    rules = [dict(path='**', init_cfg=by_name(file, NEW))]
    with pytest.raises(RuleError, match='is Known, no head that is known; wr'):
        plan_init(Known(), rules)
    with pytest.raises(RuleError, match='has no rows for classes that are kn'):
        plan_init(nn.Linear(4, 3), rules)
    from mmdet.models import SSDHead
    from mmdet.models.roi_heads.bbox_heads import MultiInstanceBBoxHead

    words = 'is SSDHead, its levels have other numbers of anchors, .* Apply'
    with pytest.raises(RuleError, match=words):
        plan_init(SSDHead(num_classes=3, anchor_generator=SSD), rules)
    words = 'is MultiInstanceBBoxHead, its loss is for one class alone; w'
    head = MultiInstanceBBoxHead(2, num_classes=3, in_channels=8)
    with pytest.raises(RuleError, match=words):
        plan_init(head, rules)


@pytest.mark.parametrize(
    'classes', ['abc', [], [1], dict(old=[]), dict(names=['a']), 3]
)
def test_classes_are_checked_when_the_rule_is_read(classes):
    rules = [dict(path='none', init_cfg=by_name('any.pth', classes))]
    with pytest.raises(RuleError, match='`classes` is a list of the names'):
        plan_init(nn.Linear(1, 1), rules)


def test_new_names_are_those_of_the_train_dataset(tmp_path):
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    own = dict(type='CocoDataset', metainfo=dict(classes=('a', 'b')))
    coco = dict(type='CocoDataset')

    def classes(dataset):
        return train_classes(
            ConfigDict(train_dataloader=dict(dataset=dataset))
        )

    assert classes(own) == ['a', 'b']
    assert (
        classes(coco)[:2] == ['person', 'bicycle'] and len(classes(coco)) == 80
    )
    wrapped = dict(type='ConcatDataset', datasets=[own, own])
    assert classes(dict(type='RepeatDataset', times=2, dataset=wrapped)) == [
        'a',
        'b',
    ]
    assert 'ToyData, has no `classes`' in classes(dict(type='ToyData'))
    assert 'has no train dataset' in train_classes(ConfigDict())


def test_datasets_may_need_what_is_not_installed(tmp_path, monkeypatch):
    from mmengine.registry import (
        DATASETS,
        DefaultScope,
        Registry,
        init_default_scope,
    )

    (tmp_path / 'of_others.py').write_text('import not_installed')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    monkeypatch.setattr(DATASETS, '_children', dict(DATASETS.children))
    Registry('d', parent=DATASETS, scope='others', locations=['of_others'])
    init_default_scope('others')
    cfg = ConfigDict(train_dataloader=dict(dataset=dict(type='Theirs')))
    said = "ModuleNotFoundError: No module named 'not_installed'"
    assert train_classes(cfg).endswith(f'cannot be imported: {said}')


def test_outside_of_a_rule_they_are_given(tmp_path):
    old, model = head_of('FCOSHead', 7), head_of('FCOSHead', 10)
    file = saved(tmp_path, old, CLASSES=OLD)
    with pytest.raises(ValueError, match='no config is known to an init_cfg'):
        initialize(model, by_name(file, {}))
    with known(NEW):
        initialize(model, by_name(file, {}))
    initialize(model, by_name(file, NEW))
    assert same(
        model.bbox_head.conv_cls.bias[1:8], old.bbox_head.conv_cls.bias
    )
