"""Made-up inputs for a model: what its layers and its config say of them."""

import importlib
from math import prod
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

Shape = Tuple[int, ...]

_BATCH = 2
# Of images; what chooses 900 places of theirs needs the larger ones.
_SIDES = (128, 256)
_FRAMES = (8,)
_LENGTH = 16  # of a sequence
_MOST_SIZES = 3  # of those that a config names
_MOST_ELEMENTS = 1 << 25  # of an input: more is no quick trial
_STRIDE = 32  # data preprocessors fill images up to its multiples
_SIZE_KEYS = ('img_size', 'image_size', 'input_size', 'crop_size', 'scale')
# The data samples of libraries, by the package that a model's class is from.
_SAMPLES = dict(
    mmdet='DetDataSample', mmseg='SegDataSample', mmpretrain='DataSample'
)


def input_shapes(model: nn.Module, cfg: Config) -> List[List[Shape]]:
    """Shapes to try: those that cost little together and first, then those of
    images as large as the config names them.
    """
    first = first_layer(model)
    shapes: List[Shape] = []
    if isinstance(first, nn.Linear):
        shapes.append((_BATCH, first.in_features))
        shapes.append((_BATCH, _LENGTH, first.in_features))
    elif isinstance(first, nn.Embedding):
        shapes.append((_BATCH, _LENGTH))
    conv = first if _is_conv(first) else _first(model, _is_conv)
    if conv is None and shapes:
        return [shapes]
    shapes += [s for side in _SIDES for s in _image_shapes(conv, (side, side))]
    large = (_image_shapes(conv, size) for size in config_sizes(cfg))
    return [shapes, *large]


def _image_shapes(conv: Any, size: Tuple[int, int]) -> List[Shape]:
    """Of images of a size, with the channels that a convolution takes."""
    channels, dims = 3, 2
    if conv is not None:
        channels, dims = conv.in_channels, conv.weight.dim() - 2
    frames = _FRAMES if dims == 3 else ()
    shapes = [(_BATCH, channels, *frames, *size[-dims:])]
    if channels == 12:  # a stem that folds four pixels into their channels
        shapes.append((_BATCH, 3, *size))
    if dims > 1:  # a recognizer of videos takes several frames, or clips
        several = (1,) if frames else _FRAMES
        shapes.append((_BATCH, *several, channels, *frames, *size))
    return [shape for shape in shapes if prod(shape) <= _MOST_ELEMENTS]


def make_input(model: nn.Module, shape: Shape, seed: int) -> Tensor:
    """Random numbers of a shape: as normalised images have them, or indices
    where the model begins with an embedding.
    """
    generator = torch.Generator().manual_seed(seed)
    first = first_layer(model)
    if isinstance(first, nn.Embedding) and len(shape) == 2:
        most = first.num_embeddings
        made = torch.randint(most, shape, generator=generator)
    else:
        made = torch.randn(shape, generator=generator)
        kinds = [p.dtype for p in model.parameters() if p.is_floating_point()]
        made = made.to(kinds[0] if kinds else made.dtype)
    devices = [p.device for p in model.parameters()]
    return made.to(devices[0] if devices else made.device)


def make_samples(model: nn.Module, shape: Shape) -> List[BaseDataElement]:
    """A data sample for each image of a batch, of the kind that the library of
    the model's class has.
    """
    size = tuple(shape[-2:])
    kind = _sample_class(model)
    samples = []
    for number in range(shape[0]):
        sample = kind(metainfo=_metainfo(number, size))
        if kind.__name__ == 'DetDataSample':
            # What denoises in training begins with what is in the image.
            sample.gt_instances = _one_box(*size)
        samples.append(sample)
    return samples


def config_sizes(cfg: Config) -> List[Tuple[int, int]]:
    """Heights and widths of images that a config names, the model's first."""
    parts = [
        cfg.get('model'),
        cfg.get('data_preprocessor'),
        *(cfg.get(f'{kind}_pipeline') for kind in ('test', 'train')),
        *(cfg.get(f'{kind}_dataloader') for kind in ('test', 'train')),
    ]
    found: List[Tuple[int, int]] = []
    for part in parts:
        for size in _sizes_in(part):
            size = (_filled(size[0]), _filled(size[1]))
            if size not in found:
                found.append(size)
    return found[:_MOST_SIZES]


def first_layer(model: nn.Module) -> Any:
    """The first layer that says what it takes."""
    return _first(
        model,
        lambda m: isinstance(m, (nn.Linear, nn.Embedding)) or _is_conv(m),
    )


def _first(model: nn.Module, fits: Any) -> Any:
    return next(filter(fits, model.modules()), None)


def _is_conv(module: Any) -> bool:
    """Also where it is one of mmcv's, which are of no class of torch's."""
    weight = getattr(module, 'weight', None)
    return (
        isinstance(weight, Tensor)
        and isinstance(getattr(module, 'in_channels', None), int)
        and 3 <= weight.dim() <= 5
    )


def _sizes_in(part: Any) -> Iterator[Tuple[int, int]]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key in _SIZE_KEYS:
                size = _as_size(value, flipped=key == 'scale')
                if size is not None:
                    yield size
                    continue
            yield from _sizes_in(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _sizes_in(value)


def _as_size(value: Any, flipped: bool) -> Optional[Tuple[int, int]]:
    if isinstance(value, int):
        value = (value, value)
    if (
        not isinstance(value, (list, tuple))
        or len(value) != 2
        or not all(isinstance(n, int) and 16 <= n <= 4096 for n in value)
    ):
        return None
    # The scale of a `Resize` is width, then height.
    return (value[1], value[0]) if flipped else (value[0], value[1])


def _filled(length: int) -> int:
    # A model of fixed size has its own, which needs no filling up.
    is_large = length > _SIDES[-1]
    return -(-length // _STRIDE) * _STRIDE if is_large else length


def _sample_class(model: nn.Module) -> Any:
    for kind in type(model).__mro__:
        package = kind.__module__.partition('.')[0]
        if package in _SAMPLES:
            structures = importlib.import_module(f'{package}.structures')
            return getattr(structures, _SAMPLES[package])
    return BaseDataElement


def _metainfo(number: int, size: Shape) -> Dict[str, Any]:
    return dict(
        img_id=number,
        img_path=f'{number}.png',
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
        flip=False,
        flip_direction=None,
        border=np.zeros(4),
    )


def _one_box(height: int, width: int) -> InstanceData:
    corners = [width / 4, height / 4, width / 2, height / 2]
    return InstanceData(
        bboxes=torch.tensor([corners]), labels=torch.zeros(1).long()
    )
