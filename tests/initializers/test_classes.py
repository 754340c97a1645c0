"""AdaptedPretrained(classes=...): rows go by the names of classes."""

import copy

import pytest
import torch
import torch.nn as nn
from mmengine.config import ConfigDict
from mmengine.model import BaseModule, initialize
from mmengine.structures import InstanceData
from toy import same, snapshot

from mmpartinit import RuleError, init_modules, plan_init
from mmpartinit.initializers.around import known
from mmpartinit.initializers.rows import _layout, class_tensors
from mmpartinit.start import train_classes

pytestmark = pytest.mark.needs_mmdet
OLD = [*'0123456']
NEW = ['9', *OLD, '7', '8']
GFL = dict(
    type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0
)
NORM = dict(type='GN', num_groups=2)
SIZES = dict(in_channels=8, feat_channels=8)
ANCHORS = dict(
    type='AnchorGenerator',
    ratios=[1.0],
    octave_base_scale=8,
    scales_per_octave=1,
    strides=[8, 16, 32, 64, 128],
)
POINTS = dict(type='MlvlPointGenerator', strides=[8, 16])
SOFTMAX = dict(type='CrossEntropyLoss', use_sigmoid=False)
DII = dict(num_ffn_fcs=2, feedforward_channels=8, in_channels=8)

SSD = dict(
    type='SSDAnchorGenerator',
    scale_major=False,
    input_size=300,
    basesize_ratio_range=(0.15, 0.9),
    strides=[8, 16, 32, 64, 100, 300],
    ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
)

# Heads by their arguments.
DENSE = {
    'RetinaHead': dict(SIZES, stacked_convs=1),
    'retina with softmax': dict(
        SIZES, type='RetinaHead', stacked_convs=1, loss_cls=SOFTMAX
    ),
    'FCOSHead': dict(SIZES, stacked_convs=1, norm_cfg=None),
    'ATSSHead': dict(
        SIZES, stacked_convs=1, norm_cfg=NORM, anchor_generator=ANCHORS
    ),
    'GFLHead': dict(
        SIZES,
        stacked_convs=1,
        norm_cfg=NORM,
        anchor_generator=ANCHORS,
        loss_cls=GFL,
    ),
    'RTMDetHead': dict(
        SIZES, stacked_convs=1, norm_cfg=NORM, anchor_generator=POINTS
    ),
    'RTMDetSepBNHead': dict(
        SIZES, stacked_convs=1, share_conv=False, anchor_generator=POINTS
    ),
    'YOLOXHead': dict(SIZES, stacked_convs=1),
    'CenterNetHead': dict(SIZES),
    'SOLOHead': dict(SIZES, stacked_convs=1, norm_cfg=NORM),
}
QUERIES = {
    'DETRHead': dict(embed_dims=8, loss_cls=SOFTMAX),
    'ConditionalDETRHead': dict(
        embed_dims=8, loss_cls=dict(type='FocalLoss', use_sigmoid=True)
    ),
    'DeformableDETRHead': dict(
        embed_dims=8,
        num_pred_layer=2,
        share_pred_layer=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
    ),
    'DINOHead': dict(
        embed_dims=8,
        num_pred_layer=2,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
    ),
}
STAGES = {
    'Shared2FCBBoxHead': dict(
        in_channels=4, fc_out_channels=8, roi_feat_size=2
    ),
    'agnostic': dict(
        type='Shared2FCBBoxHead',
        in_channels=4,
        fc_out_channels=8,
        roi_feat_size=2,
        reg_class_agnostic=True,
    ),
    'DIIHead': dict(DII, loss_cls=dict(type='FocalLoss', use_sigmoid=True)),
    'FCNMaskHead': dict(in_channels=4, conv_out_channels=4, num_convs=1),
}
ALL = {**DENSE, **QUERIES, **STAGES}


MAX_IOU = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4)
ATSS = dict(type='ATSSAssigner', topk=9)
BY_BOX = dict(
    type='HungarianAssigner',
    match_costs=[dict(type='BBoxL1Cost', weight=5.0, box_format='xywh')],
)
GIOU = dict(type='GIoULoss')
QUALITY = dict(
    loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True), loss_bbox=GIOU
)
# The losses that the configs of these heads give them.
LOSSES = dict(
    ATSSHead=dict(loss_bbox=GIOU),
    GFLHead=QUALITY,
    RTMDetHead=QUALITY,
    RTMDetSepBNHead=QUALITY,
)
# Of the heads whose loss is asked for the order of their rows.
ASSIGNERS = {
    'RetinaHead': MAX_IOU,
    'retina with softmax': MAX_IOU,
    'FCOSHead': MAX_IOU,  # which it does not use
    'ATSSHead': ATSS,
    'GFLHead': ATSS,
    'RTMDetHead': dict(type='DynamicSoftLabelAssigner', topk=9),
    'RTMDetSepBNHead': dict(type='DynamicSoftLabelAssigner', topk=9),
    'DETRHead': BY_BOX,
    'ConditionalDETRHead': BY_BOX,
    'DeformableDETRHead': BY_BOX,
    'DINOHead': BY_BOX,
}


def head_of(name, count, **others):
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    cfg = copy.deepcopy(dict(ALL[name], num_classes=count, **others))
    cfg.setdefault('type', name)
    model = BaseModule()
    model.bbox_head = MODELS.build(ConfigDict(cfg))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def outputs_of(head):
    """A function that gives what a head makes of random features."""
    kind = type(head).__name__
    if hasattr(head, 'prior_generator'):
        sizes = [128 // stride[0] for stride in head.prior_generator.strides]
        given = [torch.randn(1, 8, size, size) for size in sizes]
        if not kind.startswith('RTMDet'):
            return lambda: head(given)
        # Boxes that meet the true ones, as labels count by how far they do.
        boxes = [torch.full((1, 4, size, size), 16.0) for size in sizes]
        return lambda: (head(given)[0], boxes)
    states, references = torch.randn(2, 1, 6, 8), torch.rand(1, 6, 4)
    if kind == 'DETRHead':
        return lambda: head(states)
    if kind == 'ConditionalDETRHead':
        return lambda: head(states, references[..., :2])
    # None for what the encoder gives in two stages.
    return lambda: (*head(states, [references] * 2), None, None)


def loss_of(head):
    """The loss, in DINO that without added noise."""
    if type(head).__name__ == 'DINOHead':
        return super(type(head), head).loss_by_feat
    return head.loss_by_feat


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


FORMS = {
    'RetinaHead': (9, 0, 1),
    'retina with softmax': (9, 1, 1),
    'DETRHead': (1, 1, 1),
    'fc_cls': (1, 1, 1),
    'fc_reg': (1, 0, 4),
}


def form_of(name, key):
    if name in ('Shared2FCBBoxHead', 'agnostic'):
        return FORMS[key.split('.')[1]]
    return FORMS.get(name, (1, 0, 1))


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


@pytest.mark.parametrize('name', ALL)
def test_three_builds_give_the_form_of_the_table(name):
    models = {count: head_of(name, count) for count in (3, 5, 11)}
    states = [model.state_dict() for model in models.values()]
    layouts = {}
    for count, model in models.items():
        for known_ in class_tensors(model):
            layout = _layout(known_, len(known_.tensor), count)
            layouts.setdefault(known_.name, set()).add(layout)
    differing = {
        key
        for key, value in states[0].items()
        if len({state[key].shape for state in states}) > 1
    }
    assert layouts.keys() == differing
    for key, found in layouts.items():
        assert found == {form_of(name, key)}, key


@pytest.mark.parametrize('wanted', [0, 1, 2])
@pytest.mark.parametrize('name', ASSIGNERS)
def test_the_rows_of_a_class_are_those_that_its_label_raises(name, wanted):
    """Gradients differ in the rows of the class and of the one that it is
    compared with, by the head's own loss.
    """
    train_cfg = dict(
        assigner=ASSIGNERS[name], allowed_border=-1, pos_weight=-1
    )
    others = LOSSES.get(name, {})
    model = head_of(name, 4, train_cfg=train_cfg, **others)
    head = model.bbox_head
    head.init_weights()
    known_ = [t for t in class_tensors(model) if t.key.endswith('bias')]
    for tensor in class_tensors(model):
        # No class is likelier than another, so that none is chosen for it.
        nn.init.zeros_(tensor.tensor)
    outputs = outputs_of(head)

    def gradients(label):
        boxes = torch.tensor([[0.0, 0.0, 31.0, 31.0], [8.0, 8.0, 90.0, 90.0]])
        truth = InstanceData(bboxes=boxes, labels=torch.tensor([label] * 2))
        info = dict(
            img_shape=(128, 128),
            pad_shape=(128, 128),
            batch_input_shape=(128, 128),
        )
        losses = loss_of(head)(*outputs(), [truth], [info])
        loss = sum(
            value if torch.is_tensor(value) else sum(value)
            for key, value in losses.items()
            if 'loss_cls' in key
        )
        return torch.autograd.grad(loss, [t.tensor for t in known_])

    changes = [
        first - second
        for first, second in zip(gradients(wanted), gradients(3))
    ]
    all_moved = set()  # of a head with a layer for each level, in one of them
    limit = max(change.abs().max() for change in changes) / 1000
    for tensor, change in zip(known_, changes):
        layout = _layout(tensor, len(change), 4)
        no_class = set(layout.rows(4, []).tolist())
        for rows, label in ((change < -limit, wanted), (change > limit, 3)):
            moved = set(rows.nonzero().flatten().tolist())
            mine = set(layout.rows(4, [label]).tolist())
            assert moved <= mine - no_class, tensor.name
            all_moved |= {label for _ in moved}
        assert len(no_class) == form_of(name, tensor.name)[1] * layout.outer
    assert all_moved == {wanted, 3}


@pytest.mark.parametrize('wanted', [0, 2])
def test_boxes_and_masks_lie_by_class(wanted):
    model = head_of('Shared2FCBBoxHead', 4)
    head = model.bbox_head
    scores, boxes = head(torch.randn(2, 4, 2, 2))
    labels = torch.tensor([wanted, 4])
    weights = torch.tensor([[1.0], [0.0]]).expand(2, 4)
    rois = torch.tensor([[0.0, 0, 0, 9, 9]] * 2)
    losses = head.loss(
        scores, boxes, rois, labels, torch.ones(2), torch.ones(2, 4), weights
    )
    losses['loss_bbox'].backward()
    rows = {t.key: t for t in class_tensors(model)}['fc_reg.bias']
    moved = rows.tensor.grad.ne(0).nonzero().flatten()
    assert moved.tolist() == [4 * wanted + i for i in range(4)]
    model = head_of('FCNMaskHead', 4)
    masks = model.bbox_head(torch.randn(1, 4, 2, 2))
    masks[:, wanted].sum().backward()
    bias = model.bbox_head.conv_logits.bias
    assert bias.grad.ne(0).nonzero().tolist() == [[wanted]]


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
