"""A classifier of handwritten digits in MMEngine's terms: data, model, metric.

Written as a user's project would be; nothing in here knows the hook.
"""

from typing import Any, Dict, List, Optional, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel, BaseModule, Sequential
from mmengine.registry import DATASETS, METRICS, MODELS
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset


@DATASETS.register_module()
class Digits(Dataset):
    """scikit-learn's digits: 1,797 grey images of 8 x 8 pixels, ten classes.

    Args:
        split (str): ``'train'`` (1,297 images), ``'few'`` (the first 100 of
            these, in the split's random order) or ``'test'`` (500 images).
        seed (int): Seed of the split.
    """

    metainfo: Dict[str, Any] = dict(classes=tuple('0123456789'))

    def __init__(self, split: str, seed: int) -> None:
        images, labels = load_digits(return_X_y=True)
        train_x, test_x, train_y, test_y = train_test_split(
            images, labels, test_size=500, random_state=seed, stratify=labels
        )
        x, y = {
            'train': (train_x, train_y),
            'few': (train_x[:100], train_y[:100]),
            'test': (test_x, test_y),
        }[split]
        self.images = (
            torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16
        )
        self.labels = torch.tensor(y)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Dict[str, Tensor]:
        return dict(inputs=self.images[index], labels=self.labels[index])


class SE(nn.Module):
    """Squeeze-and-excitation: each channel times a gate between 0 and 1.

    From "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507.
    A plain module, without ``init_weights``, as most people write them.
    """

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // ratio, 1)
        self.fc2 = nn.Conv2d(channels // ratio, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class Block(BaseModule):
    """A residual block of two convolutions, with SE in its branch or not."""

    def __init__(
        self, channels: int, out: int, stride: int, with_se: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.se = SE(out) if with_se else None
        self.downsample = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False),
                nn.BatchNorm2d(out),
            )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.se is not None:
            branch = self.se(branch)
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(branch + shortcut)


@MODELS.register_module()
class SmallResNet(BaseModule):
    """A ResNet for 8 x 8 images: a stem and three stages of two blocks.

    Args:
        channels (Sequence[int]): Channels of the stages.
        with_se (bool): Whether each block has an SE block.
        init_cfg (dict, optional): As in MMEngine.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64),
        with_se: bool = False,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        )
        previous = channels[0]
        for number, out in enumerate(channels, 1):
            stride = 1 if number == 1 else 2
            self.add_module(
                f'layer{number}',
                Sequential(
                    Block(previous, out, stride, with_se),
                    Block(out, out, 1, with_se),
                ),
            )
            previous = out

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return x.mean((2, 3))


@MODELS.register_module()
class DigitsClassifier(BaseModel):
    """A backbone and a linear layer.

    Args:
        backbone (dict): Config of the backbone.
    """

    def __init__(self, backbone: dict) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(64, 10)

    def forward(
        self, inputs: Tensor, labels: Tensor, mode: str = 'tensor'
    ) -> Any:
        scores = self.head(self.backbone(inputs))
        if mode == 'loss':
            return dict(loss=F.cross_entropy(scores, labels))
        if mode == 'predict':
            return scores.argmax(1)
        return scores


@METRICS.register_module()
class DigitsAccuracy(BaseMetric):
    """Share of right answers, in percent."""

    def process(self, data_batch: dict, data_samples: List[Tensor]) -> None:
        answers = torch.stack(list(data_samples)).cpu()
        self.results += (answers == data_batch['labels']).tolist()

    def compute_metrics(self, results: List[bool]) -> Dict[str, float]:
        return dict(accuracy=100 * sum(results) / len(results))
