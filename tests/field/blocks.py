"""New blocks of five kinds, put into any model at random places."""

import random
from typing import Any, Dict, List

import torch
import torch.nn as nn
from mmengine.registry import MODELS
from torch import Tensor

NEW = 'grown_'  # what all that is new is called
_MOST_CHANNELS = 1024
_HIDDEN = 4


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, _HIDDEN)
        self.fc2 = nn.Linear(_HIDDEN, channels)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.flatten(1, -2).mean(1) if x.dim() > 2 else x
        gate = self.fc2(self.fc1(squeezed).relu()).sigmoid()
        return x * gate.reshape(len(x), *[1] * (x.dim() - 2), -1)


class Adapter(nn.Module):
    """A bottleneck beside what goes by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Linear(channels, _HIDDEN)
        self.norm = nn.BatchNorm1d(_HIDDEN)
        self.up = nn.Linear(_HIDDEN, channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.down(x)
        norm = self.norm(hidden.reshape(-1, _HIDDEN)).reshape(hidden.shape)
        return x + self.up(norm.relu())


class Projection(nn.Module):
    """A norm and a layer, with nothing beside them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))


class Depthwise(nn.Module):
    """A depthwise convolution beside what goes by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, channels, 3, padding=1, groups=channels
        )

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(x.shape[0], -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
        return x + self.conv(rows).permute(0, 2, 3, 1).reshape(x.shape)


def _scale(channels: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(channels))


# By name: a module on (N, ..., C), or a bare parameter.
KINDS = dict(
    gate=Gate,
    adapter=Adapter,
    projection=Projection,
    depthwise=Depthwise,
    scale=_scale,
)


@MODELS.register_module()
def grown(of: str, grown_seed: int, **arguments: Any) -> nn.Module:
    """A model with a block of each kind behind some of its modules."""
    model = MODELS.build(dict(type=of, **arguments))
    places: Dict[str, List[nn.Module]] = {}
    for path, module in model.named_modules():
        if path and _channels(module):
            # In a teacher where it is in its student.
            places.setdefault(path.partition('.')[2], []).append(module)
    draw = random.Random(grown_seed)
    chosen = draw.sample(list(places), min(len(KINDS), len(places)))
    for kind, place in zip(draw.sample(list(KINDS), len(KINDS)), chosen):
        for module in places[place]:
            setattr(module, NEW + kind, KINDS[kind](_channels(module)))
            module.register_forward_hook(_through)
    return model


def _channels(module: nn.Module) -> int:
    """How many channels a module of a few layers gives, as far as its last
    layer tells; 0 where there is nothing to tell.
    """
    if isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return 0
    found = [
        getattr(child, 'out_channels', getattr(child, 'out_features', None))
        for child in module.children()
        if isinstance(getattr(child, 'weight', None), nn.Parameter)
    ]
    sizes = [size for size in found if isinstance(size, int)]
    return sizes[-1] if sizes and sizes[-1] <= _MOST_CHANNELS else 0


def _through(module: nn.Module, _: Any, output: Any) -> Any:
    """Send what a module gives through its block, if that fits it."""
    channels = _channels(module)
    if not isinstance(output, Tensor) or output.dim() < 2:
        return output
    first = output.dim() > 3 or output.shape[-1] != channels
    if output.shape[1 if first else -1] != channels:
        return output
    x = output.movedim(1, -1) if first else output
    for kind in KINDS:
        block = getattr(module, NEW + kind, None)
        if isinstance(block, nn.Parameter):
            x = x * block
        elif block is not None:
            x = block(x)
    # Which mmcv's operators ask for.
    return x.movedim(-1, 1).contiguous() if first else x


def layers_of(model: nn.Module) -> List[str]:
    """Paths of the layers that could have another size."""
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
        and NEW not in path
    ]
