"""Where a block is put into the pretrained network.

A place is what a user's own code would do, so each is spelled out. The names
of what was there before stay, so that the checkpoint loads as it is.
"""

from typing import Any, Callable, Dict, Optional, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from mmengine.registry import MODELS

from mmpartinit.demo.digits import Block, DigitsClassifier, SmallResNet


def build_plug(cfg: Any, channels: int) -> nn.Module:
    """Build a block; the word ``'channels'`` in its config is the number."""
    return MODELS.build(_filled(cfg, channels))


def _filled(value: Any, channels: int) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, channels) for key, inner in value.items()}
    return channels if value == 'channels' else value


class PlainBlock(Block):
    """The network's block; what is new is in the classes below."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__(channels, out, stride, with_se=False)

    def branch(self, x):
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))

    def shortcut(self, x):
        return x if self.downsample is None else self.downsample(x)

    def forward(self, x):
        return F.relu(self.branch(x) + self.shortcut(x))


class PluggedBlock(PlainBlock):
    """A block with something new in it."""

    def __init__(self, channels: int, out: int, stride: int, plug) -> None:
        super().__init__(channels, out, stride)
        self.plug = build_plug(plug, out)


class InBranch(PluggedBlock):
    """In the residual branch, before the addition."""

    def forward(self, x):
        return F.relu(self.plug(self.branch(x)) + self.shortcut(x))


class AfterBlock(PluggedBlock):
    """Behind the block."""

    def forward(self, x):
        return self.plug(super().forward(x))


class AddedInBranch(PluggedBlock):
    """Beside the end of the residual branch, which it is added to."""

    def forward(self, x):
        branch = self.branch(x)
        return F.relu(branch + self.plug(branch) + self.shortcut(x))


class AddedAfterBlock(PluggedBlock):
    """Behind the block, and added to what comes from there."""

    def forward(self, x):
        x = super().forward(x)
        return x + self.plug(x)


class BesideBlock(PluggedBlock):
    """Parallel to the residual branch."""

    def forward(self, x):
        added = self.branch(x) + self.plug(x)
        return F.relu(added + self.shortcut(x))


class BesideConv(PluggedBlock):
    """Parallel to the second convolution."""

    def forward(self, x):
        x1 = F.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(x1) + self.plug(x1))
        return F.relu(branch + self.shortcut(x))


class ScaledBranch(PlainBlock):
    """The residual branch times a bare factor, as in CaiT and ConvNeXt."""

    def __init__(self, channels: int, out: int, stride: int, plug) -> None:
        super().__init__(channels, out, stride)
        self.gamma = build_plug(plug, out).bare()

    def forward(self, x):
        gamma = self.gamma.view(1, -1, 1, 1)
        return F.relu(gamma * self.branch(x) + self.shortcut(x))


class ScaledBlock(ScaledBranch):
    """What comes out of the block times a bare factor."""

    def forward(self, x):
        return self.gamma.view(1, -1, 1, 1) * PlainBlock.forward(self, x)


def _blocks(
    kind: Callable[..., nn.Module],
    every: bool,
    stages: Sequence[int] = (1, 2, 3),
) -> Callable:
    """Put a kind of block in place of all, or of the last of each stage."""

    def place(net: nn.Module, plug: Any) -> None:
        for stage in (getattr(net, f'layer{number}') for number in stages):
            for number in (0, 1) if every else (1,):
                conv = stage[number].conv1
                stage[number] = kind(
                    conv.in_channels, conv.out_channels, *conv.stride[:1], plug
                )

    return place


def _conv(name: str, stages: Sequence[int] = (1, 2, 3)) -> Callable:
    """Put a layer in the place of a convolution, with the same arguments."""

    def place(net: nn.Module, plug: Any) -> None:
        for number in stages:
            for block in getattr(net, f'layer{number}'):
                conv = getattr(block, name)
                cfg = dict(
                    plug,
                    in_channels=conv.in_channels,
                    out_channels=conv.out_channels,
                    stride=conv.stride[0],
                )
                setattr(block, name, MODELS.build(cfg))

    return place


def _wrap(name: str) -> Callable:
    """Put a convolution into a wrapper."""

    def place(net: nn.Module, plug: Any) -> None:
        for stage in (net.layer1, net.layer2, net.layer3):
            for block in stage:
                cfg = dict(plug, layer=getattr(block, name))
                setattr(block, name, MODELS.build(cfg))

    return place


PLACES: Dict[str, Callable] = {
    'in branch': _blocks(InBranch, every=True),
    'after': _blocks(AfterBlock, every=False),
    # Where all positions look at all, as networks do it: after downsampling.
    'in late branch': _blocks(InBranch, every=True, stages=(3,)),
    'after the last': _blocks(AfterBlock, every=False, stages=(3,)),
    'added in late branch': _blocks(AddedInBranch, every=True, stages=(3,)),
    'added after the last': _blocks(AddedAfterBlock, every=False, stages=(3,)),
    'beside block': _blocks(BesideBlock, every=False),
    'beside conv': _blocks(BesideConv, every=False),
    'factor in branch': _blocks(ScaledBranch, every=True),
    'factor after': _blocks(ScaledBlock, every=False),
    'for conv1': _conv('conv1'),
    'for conv2': _conv('conv2'),
    # For layers that need more than the 2 x 2 pixels of the third stage.
    'for early conv1': _conv('conv1', stages=(1, 2)),
    'for early conv2': _conv('conv2', stages=(1, 2)),
    'around conv1': _wrap('conv1'),
    'around conv2': _wrap('conv2'),
}


@MODELS.register_module()
class PluggedResNet(SmallResNet):
    """The network of the demo with a new block.

    Args:
        plug (dict): Config of the block.
        place (str): Where it is put.
        init_cfg (dict, optional): As in MMEngine.
    """

    def __init__(
        self, plug: dict, place: str, init_cfg: Optional[dict] = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        PLACES[place](self, plug)


@MODELS.register_module()
class TwoInputsResNet(SmallResNet):
    """The network with a branch that sees the image anew.

    Args:
        plug (dict): Config of the branch.
        stage (int): The stage whose output it is added to.
    """

    def __init__(self, plug: dict, stage: int) -> None:
        super().__init__()
        self.stage = stage
        self.side = MODELS.build(plug)

    def forward(self, x):
        side = self.side(x)
        x = self.stem(x)
        for number in (1, 2, 3):
            x = getattr(self, f'layer{number}')(x)
            if number == self.stage:
                x = x + side
        return x.mean((2, 3))


@MODELS.register_module()
class PromptedResNet(SmallResNet):
    """The network with a bare parameter that is added to its features.

    Args:
        start (float): The deviation of what is drawn; 0 is the constant.
        stage (int): The stage whose output it is added to.
        img_size (int): Height and width of the images, which are fixed.
    """

    def __init__(self, start: float, stage: int, img_size: int) -> None:
        super().__init__()
        self.stage = stage
        side = img_size // 2 ** (stage - 1)
        size = (1, 16 * 2 ** (stage - 1), side, side)
        self.prompt = nn.Parameter(torch.zeros(size))
        if start:
            nn.init.normal_(self.prompt, std=start)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        if self.stage == 2:
            x = x + self.prompt
        x = self.layer3(x)
        if self.stage == 3:
            x = x + self.prompt
        return x.mean((2, 3))


@MODELS.register_module()
class PluggedClassifier(DigitsClassifier):
    """The classifier with its last layer in a wrapper, or another one.

    Args:
        plug (dict): Config of what is there in place of the layer.
        wraps (bool): Whether it takes the layer.
    """

    def __init__(self, plug: dict, wraps: bool) -> None:
        super().__init__(dict(type='SmallResNet'))
        taken = dict(layer=self.head) if wraps else {}
        self.head = MODELS.build(dict(plug, **taken))
