"""A small network for images, and others with something put into it."""

import torch
import torch.nn as nn
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch.utils.data import Dataset

NETS = """\
custom_imports = dict(
    imports=['nets', 'mmpartinit'], allow_failed_imports=False
)
"""


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 4, 1)
        self.fc2 = nn.Conv2d(4, channels, 1)

    def forward(self, x):
        gate = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return x * gate.sigmoid()


class Adapter(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.down = nn.Conv2d(channels, 2, 1)
        self.up = nn.Conv2d(2, channels, 1)

    def forward(self, x):
        return x + self.up(self.down(x).relu())


class Block(nn.Module):
    """Its layers are not in the order in which they are used."""

    def __init__(self, new=None):
        super().__init__()
        self.bn2 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        if new is not None:
            self.new = new

    def forward(self, x):
        out = self.bn2(self.conv2(self.conv1(x).relu_()))
        if hasattr(self, 'new'):
            out = self.new(out)
        return (x + out).relu_()


@MODELS.register_module()
class Net(BaseModel):
    """Two blocks between a stem and a head that sees two sizes.

    ``new`` says what was put into it: an ``adapter`` or a ``gate`` into each
    block, a block of its own ``between`` them; ``best`` has the head see the
    best places only.
    """

    def __init__(self, new=None, classes=3, best=False):
        super().__init__()
        self.best = best
        kinds = dict(adapter=Adapter, gate=Gate)
        inner = [kinds[new](8) if new in kinds else None for _ in range(2)]
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.layers = nn.Sequential(*map(Block, inner))
        if new == 'between':
            self.layers.insert(1, Adapter(8))
        self.head = nn.Conv2d(8, classes, 1)

    def extract_feat(self, inputs):
        return self.layers(self.stem(inputs))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.extract_feat(inputs)
        if self.best:
            order = x.sum(1).flatten(1).argsort(1)
            places = order[:, None, ::2].expand(-1, 8, -1)
            x = x.flatten(2).gather(2, places)[..., None]
        outputs = [self.head(x), self.head(x[:, :, ::2])]
        if mode == 'loss':
            return dict(loss=sum(out.square().mean() for out in outputs))
        return outputs


@DATASETS.register_module()
class Ones(Dataset):
    metainfo = {}

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.full((1, 16, 24), float(index + 1)))


def weights(path, *, seed=11, without=(), **changes):
    """Save weights of a network, with statistics as training leaves them."""
    torch.manual_seed(seed)
    net = Net(**changes).train()
    with torch.no_grad():
        for _ in range(5):
            net(torch.randn(4, 1, 32, 32))
        net.head.weight *= 10
    state = net.state_dict()
    for name in [n for n in state if n.startswith(tuple(without) or ('-',))]:
        del state[name]
    torch.save(dict(state_dict=state), str(path))
