"""The table of heads says which rows are those of a class."""

import pytest
import torch
import torch.nn as nn
from heads import ALL, form_of, head_of
from mmengine.structures import InstanceData

from mmpartinit.initializers.rows import _layout, class_tensors

pytestmark = pytest.mark.needs_mmdet
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
            if moved:
                all_moved.add(label)
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
