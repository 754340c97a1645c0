"""A ResNet-50 for images, and one for videos as mmaction2 has it."""

import torch.nn as nn

# What makes torchvision's names those of mmaction2's ResNet3d.
PAIRS = [
    (r'\bconv(\d)\.', r'conv\1.conv.'),
    (r'\bbn(\d)\.', r'conv\1.bn.'),
    (r'downsample\.0\.', 'downsample.conv.'),
    (r'downsample\.1\.', 'downsample.bn.'),
]
DEPTHS = (3, 4, 6, 3)


class Unit(nn.Module):
    """A convolution and its norm, as mmcv's ConvModule names them."""

    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, bias=False)
        self.bn = nn.BatchNorm3d(outputs)


def resnet50(dims, inputs=3):
    """The tensors of a narrow ResNet-50: 2-D with the names of torchvision,
    3-D with those of mmaction2, every other block with a length of 3.
    """

    def add(parent, conv, norm, inputs, outputs, size, length=1):
        if dims == 3:
            kernel = (length, size, size)
            parent.add_module(conv, Unit(inputs, outputs, kernel))
            return
        layer = nn.Conv2d(inputs, outputs, size, bias=False)
        parent.add_module(conv, layer)
        parent.add_module(norm, nn.BatchNorm2d(outputs))

    net = nn.Module()
    add(net, 'conv1', 'bn1', inputs, 4, 7, 5)
    width = 4
    for stage, depth in enumerate(DEPTHS):
        layer = nn.Sequential()
        for number in range(depth):
            block, middle = nn.Module(), 4 << stage
            length = 3 if number % 2 == 0 else 1
            add(block, 'conv1', 'bn1', width, middle, 1, length)
            add(block, 'conv2', 'bn2', middle, middle, 3)
            add(block, 'conv3', 'bn3', middle, 4 * middle, 1)
            if number == 0 and dims == 3:
                add(block, 'downsample', '', width, 4 * middle, 1)
            elif number == 0:
                block.downsample = nn.Sequential()
                add(block.downsample, '0', '1', width, 4 * middle, 1)
            width = 4 * middle
            layer.append(block)
        net.add_module(f'layer{stage + 1}', layer)
    if dims == 2:
        net.fc = nn.Linear(width, 10)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.normal_()
    return net


def as_mmaction2(net, state):
    """What mmaction2 makes of a 2-D state dict, by its rule."""
    found = {}
    for name, unit in net.named_modules():
        if not isinstance(unit, Unit):
            continue
        conv, norm = name, name.replace('conv', 'bn')
        if 'downsample' in name:
            conv, norm = f'{name}.0', f'{name}.1'
        weight = state[f'{conv}.weight'].unsqueeze(2)
        like = unit.conv.weight
        found[f'{name}.conv.weight'] = weight.expand_as(like) / like.shape[2]
        for key in unit.bn.state_dict():
            found[f'{name}.bn.{key}'] = state[f'{norm}.{key}']
    return found
