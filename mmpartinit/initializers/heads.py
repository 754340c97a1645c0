"""Which layers of which heads have rows for classes, and in which order.

Data, as mmdet 3.3.0 has it: by the names of classes, each with the layers
whose first dimension stands for classes. What inherits from a head and is not
listed itself has the layers of that. ``tests/initializers/test_heads.py``
compares with what the heads compute.
"""

from typing import Dict, NamedTuple, Tuple, Union

# A row for each class.
CLASSES = 'classes'
# A row for each class, and one for the background at the end.
BACKGROUND = 'classes, background'
# One of these two, as the loss wants it.
SCORES = 'classes or classes, background'
# For each anchor, what SCORES has.
ANCHORS = 'anchors x (classes or classes, background)'
# For each class, rows for the numbers of a box, or for the points of a mask.
PARTS = 'classes x parts'


class Layer(NamedTuple):
    """Tensors with rows for classes.

    Attributes:
        names (str): Their names as seen from the head, ``*`` for any part.
        form (str): What their rows stand for.
        unless (str): The head's attribute that says that they have none; ''
            where they always have.
    """

    names: str
    form: str
    unless: str = ''


def _one(name: str, form: str) -> Tuple[Layer, ...]:
    return (Layer(f'{name}.*', form),)


_BOXES = Layer('fc_reg.*', PARTS, 'reg_class_agnostic')
_NONE: Tuple[Layer, ...] = ()

# A str says why there is nothing to go by.
HEADS: Dict[str, Union[Tuple[Layer, ...], str]] = dict(
    # In two stages, the second.
    BBoxHead=(Layer('fc_cls.*', BACKGROUND), _BOXES),
    DIIHead=_one('fc_cls', SCORES),
    SABLHead=_one('fc_cls', BACKGROUND),
    MultiInstanceBBoxHead='its loss is for one class alone',
    FCNMaskHead=(Layer('conv_logits.*', CLASSES, 'class_agnostic'),),
    CoarseMaskHead=_one('fc_logits', PARTS),
    MaskIoUHead=_one('fc_mask_iou', CLASSES),
    GlobalContextHead=_one('fc', CLASSES),
    FusedSemanticHead=_NONE,  # its classes are others
    MaskPointHead='its inputs hold a score for each class as well',
    SeesawLoss='it counts classes, and has two more scores for objectness',
    # With anchors.
    AnchorHead=_one('conv_cls', ANCHORS),
    RetinaHead=_one('retina_cls', ANCHORS),
    RetinaSepBNHead=_one('retina_cls', ANCHORS),
    SABLRetinaHead=_one('retina_cls', SCORES),
    GARetinaHead=_one('retina_cls', ANCHORS),
    GuidedAnchorHead=_one('conv_cls', ANCHORS),
    YOLOFHead=_one('cls_score', ANCHORS),
    YOLACTHead=_one('conv_cls', ANCHORS),
    YOLACTProtonet=_NONE,
    SegmentationModule=_one('segm_conv', CLASSES),
    RPNHead=_NONE,
    GARPNHead=_NONE,
    CascadeRPNHead=_NONE,
    SSDHead='its levels have other numbers of anchors, and of layers',
    YOLOV3Head='scores and boxes are rows of the same layer',
    # With one anchor, or a point.
    ATSSHead=_one('atss_cls', ANCHORS),
    DDODHead=_one('atss_cls', ANCHORS),
    TOODHead=_one('tood_cls', ANCHORS),
    GFLHead=_one('gfl_cls', SCORES),
    VFNetHead=_one('vfnet_cls', SCORES),
    RTMDetHead=_one('rtm_cls', ANCHORS),
    AnchorFreeHead=_one('conv_cls', SCORES),
    AutoAssignHead=(
        Layer('conv_cls.*', SCORES),
        Layer('center_prior.mean', CLASSES),
        Layer('center_prior.sigma', CLASSES),
    ),
    RepPointsHead=_one('reppoints_cls_out', SCORES),
    YOLOXHead=_one('multi_level_conv_cls', CLASSES),
    CenterNetHead=_one('heatmap_head.2', CLASSES),
    CornerHead=(
        Layer('tl_heat.*.1.conv.*', CLASSES),
        Layer('br_heat.*.1.conv.*', CLASSES),
    ),
    SOLOHead=_one('conv_cls', CLASSES),
    # With queries.
    DETRHead=_one('fc_cls', SCORES),
    DeformableDETRHead=_one('cls_branches', SCORES),
    DDQDETRHead=(
        Layer('cls_branches.*', SCORES),
        Layer('aux_cls_branches.*', SCORES),
    ),
    CdnQueryGenerator=_one('label_embedding', CLASSES),
    MaskFormerHead=_one('cls_embed', BACKGROUND),
    GroundingDINOHead='it scores the words of a text',
    ATSSVLFusionHead='it scores the words of a text',
)
