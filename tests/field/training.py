"""Real training of a small model of each package, then a resume.

    python tests/field/training.py [PACKAGE ...] [--keep FOLDER]

A backbone of the package's, loaded from a made-up file, gets an adapter. A
Runner trains it on made-up data with the hook for 20 iterations, and another
one resumes from there for 5. At the start the backbone has to hold what the
file does, and the network to compute what it does without the adapter; the
adapter has to learn; the resumed run has to begin where the first one ended.
Exit 1 where one of these is not so.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, init_default_scope
from mmengine.runner import Runner
from torch.utils.data import Dataset

sys.path.insert(0, str(Path(__file__).parent))
# MMEngine's checkpoints hold more than weights.
os.environ.setdefault('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')

from packages import bring  # noqa: E402

import mmpartinit  # noqa: E402, F401

SIZE, CLASSES = 32, 3
RULES = [
    dict(path='backbone.down', init_cfg=dict(type='Kaiming', layer='Conv2d')),
    dict(path='backbone.up', init_cfg=dict(type='Constant', val=0.0)),
]


class Package(NamedTuple):
    """What is trained of a package.

    Attributes:
        name (str): By which it is imported.
        model (dict): Its config, but for the backbone.
        shape (tuple[int]): Of the inputs of one sample.
        sample (Callable): Makes the data sample of one, from a number.
        loaded (str): The backbone's key for its file; empty for ``init_cfg``.
    """

    name: str
    model: Dict[str, Any]
    shape: tuple
    sample: Callable[[int], Any]
    loaded: str = ''


def label(number: int) -> torch.Tensor:
    return torch.tensor([number % CLASSES])


def of_mmpretrain(number: int) -> Any:
    from mmpretrain.structures import DataSample

    return DataSample().set_gt_label(label(number))


def of_mmseg(number: int) -> Any:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    data = torch.full((1, SIZE, SIZE), number % CLASSES)
    shape = (SIZE, SIZE)
    sample = SegDataSample(
        metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape)
    )
    sample.gt_sem_seg = PixelData(data=data)
    return sample


def of_mmpose(number: int) -> Any:
    from mmengine.structures import InstanceData, PixelData
    from mmpose.structures import PoseDataSample

    heat = torch.rand(CLASSES, SIZE // 4, SIZE // 4)
    sample = PoseDataSample(metainfo=dict(img_shape=(SIZE, SIZE)))
    sample.gt_fields = PixelData(heatmaps=heat)
    weights = torch.ones(1, CLASSES)
    sample.gt_instance_labels = InstanceData(keypoint_weights=weights)
    return sample


def of_mmaction(number: int) -> Any:
    from mmaction.structures import ActionDataSample

    return ActionDataSample().set_gt_label(label(number))


IMAGE = (3, SIZE, SIZE)
PACKAGES: List[Package] = [
    Package(
        'mmpretrain',
        dict(
            type='ImageClassifier',
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead', in_channels=512, num_classes=CLASSES
            ),
        ),
        IMAGE,
        of_mmpretrain,
    ),
    Package(
        'mmseg',
        dict(
            type='EncoderDecoder',
            decode_head=dict(
                type='FCNHead',
                in_channels=512,
                in_index=3,
                channels=16,
                num_convs=1,
                num_classes=CLASSES,
            ),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
            data_preprocessor=dict(
                type='SegDataPreProcessor', size=(SIZE, SIZE)
            ),
        ),
        IMAGE,
        of_mmseg,
    ),
    Package(
        'mmpose',
        dict(
            type='TopdownPoseEstimator',
            data_preprocessor=dict(type='PoseDataPreprocessor'),
            head=dict(
                type='HeatmapHead',
                in_channels=512,
                out_channels=CLASSES,
                deconv_out_channels=(16, 16, 16),
                deconv_kernel_sizes=(4, 4, 4),
                loss=dict(type='KeypointMSELoss', use_target_weight=True),
                decoder=dict(
                    type='MSRAHeatmap',
                    input_size=(SIZE, SIZE),
                    heatmap_size=(SIZE // 4, SIZE // 4),
                    sigma=2,
                ),
            ),
        ),
        IMAGE,
        of_mmpose,
    ),
    Package(
        'mmaction',
        dict(
            type='Recognizer2D',
            cls_head=dict(
                type='TSNHead',
                in_channels=512,
                num_classes=CLASSES,
                average_clips='prob',
            ),
            data_preprocessor=dict(type='ActionDataPreprocessor'),
        ),
        (2, *IMAGE),
        of_mmaction,
        'pretrained',
    ),
]


class Adapted(nn.Module):
    """Beside a ResNet: an adapter on the last of what it gives."""

    def add(self) -> None:
        self.down = nn.Conv2d(512, 8, 1)
        self.up = nn.Conv2d(8, 512, 1)

    def adapt(self, given: Any) -> Any:
        if isinstance(given, tuple):
            return (*given[:-1], self.adapt(given[-1]))
        return given + self.up(self.down(given).relu())


def register(package: Package) -> None:
    """A backbone with an adapter, in a package's registry."""
    registry = __import__(package.name).registry.MODELS
    resnet = registry.get('ResNet')

    class ResNetWithAdapter(resnet, Adapted):
        def __init__(self, **more: Any) -> None:
            super().__init__(**more)
            self.add()

        def forward(self, x: Any) -> Any:
            return self.adapt(super().forward(x))

    registry.register_module(module=ResNetWithAdapter, force=True)


@DATASETS.register_module()
class MadeUp(Dataset):
    """Random inputs, of which the label decides the mean."""

    metainfo: Dict[str, Any] = {}

    def __init__(self, package: str) -> None:
        self.package = next(p for p in PACKAGES if p.name == package)

    def __len__(self) -> int:
        return 16

    def __getitem__(self, number: int) -> Dict[str, Any]:
        draw = torch.Generator().manual_seed(number)
        inputs = torch.randn(self.package.shape, generator=draw)
        inputs += number % CLASSES
        return dict(inputs=inputs, data_samples=self.package.sample(number))


@HOOKS.register_module()
class AtStart(Hook):
    """Keeps the weights as they are when training starts."""

    priority = 'LOWEST'
    state: Dict[str, torch.Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        self.state = state_of(runner.model)


def state_of(model: nn.Module) -> Dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def config(package: Package, folder: Path, file: str, iters: int) -> Config:
    """What a user would write."""
    backbone = dict(type='ResNetWithAdapter', depth=18, norm_eval=False)
    if package.name != 'mmaction':
        backbone['out_indices'] = (0, 1, 2, 3)
    if package.name == 'mmpretrain':
        backbone['out_indices'] = (3,)
    if package.loaded:
        backbone[package.loaded] = file
    else:
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=file)
    data = dict(type='mmengine.MadeUp', package=package.name)
    hook = dict(type='mmengine.CustomModuleInitHook', modules=RULES)
    return Config(
        dict(
            default_scope=package.name,
            model=dict(package.model, backbone=backbone),
            work_dir=str(folder),
            train_dataloader=dict(
                batch_size=4,
                dataset=data,
                sampler=dict(type='DefaultSampler', shuffle=True),
            ),
            train_cfg=dict(by_epoch=False, max_iters=iters),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.01, momentum=0.9)
            ),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=False, interval=20
                )
            ),
            custom_hooks=[hook, dict(type='mmengine.AtStart')],
            randomness=dict(seed=3),
            log_level='WARNING',
            experiment_name=f'{package.name}_{iters}',
        )
    )


def saved(package: Package, resnet: nn.Module) -> Dict[str, torch.Tensor]:
    """The state dict of a file; mmaction2 wants torchvision's names."""
    state = resnet.state_dict()
    if package.name != 'mmaction':
        return state
    found = {}
    for name, tensor in state.items():
        name = re.sub(r'(conv\d)\.conv', r'\1', name)
        name = re.sub(r'conv(\d)\.bn', r'bn\1', name)
        name = name.replace('downsample.conv', 'downsample.0')
        found[name.replace('downsample.bn', 'downsample.1')] = tensor
    return found


def last(given: Any) -> torch.Tensor:
    """The last of what a backbone gives."""
    return given[-1] if isinstance(given, tuple) else given


def tried(package: Package, folder: Path) -> List[str]:
    """Train and resume; what is not as it should be."""
    bring(package.name)
    register(package)
    init_default_scope(package.name)
    registry = __import__(package.name).registry.MODELS
    torch.manual_seed(1)
    resnet = registry.build(dict(type='ResNet', depth=18))
    for tensor in resnet.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.1 * torch.rand_like(tensor)).add_(
                0.01 * torch.rand_like(tensor)
            )
    file = str(folder / 'resnet.pth')
    torch.save(saved(package, resnet), file)

    wrong = []
    runner = Runner.from_cfg(config(package, folder / 'run', file, 20))
    runner.train()
    after = state_of(runner.model)
    at_start = next(h for h in runner.hooks if isinstance(h, AtStart)).state
    report = next(h for h in runner.hooks if hasattr(h, 'rules')).report
    origins = report.origins()
    kept = resnet.state_dict()
    changed = [
        name
        for name, tensor in kept.items()
        if not torch.equal(at_start[f'backbone.{name}'], tensor)
    ]
    if changed:
        wrong.append(f'loaded, and changed: {changed}')
    runner.model.load_state_dict(at_start, strict=False)
    x = torch.randn(2, *IMAGE)
    nets = resnet, runner.model.backbone
    for net in nets:
        net.eval()
    with torch.no_grad():
        plain, adapted = (last(net(x)) for net in nets)
    if not torch.equal(plain, adapted):
        wrong.append('the network starts from something else')
    if not at_start['backbone.down.weight'].std():
        wrong.append('the adapter is not drawn')
    if not after['backbone.up.weight'].any():
        wrong.append('the adapter does not learn')
    for name in ('init_report.json', 'init_report.png'):
        if not (Path(runner.log_dir) / name).is_file():
            wrong.append(f'there is no {name}')

    again = config(package, folder / 'run', file, 25)
    again.resume = True
    resumed = Runner.from_cfg(again)
    resumed.train()
    at_start = next(h for h in resumed.hooks if isinstance(h, AtStart)).state
    wrong += [
        f'{name} is not resumed'
        for name, tensor in after.items()
        if not torch.equal(at_start[name], tensor)
    ]
    if next(h for h in resumed.hooks if hasattr(h, 'rules')).report:
        wrong.append('the resumed run was initialised')
    codes = sorted(f'{f.level} {f.code}' for f in report.findings)
    said = ', '.join(f'{n} {k}' for k, n in origins.items() if n)
    print(f'{package.name:12} {said}; {", ".join(codes) or "no finding"}')
    return wrong


def main() -> int:
    """Train what is asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('packages', nargs='*')
    parser.add_argument('--keep', metavar='FOLDER')
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as made:
        for package in PACKAGES:
            if package.name not in (options.packages or [package.name]):
                continue
            folder = Path(options.keep or made) / package.name
            folder.mkdir(parents=True)
            for text in tried(package, folder):
                failed += 1
                print(f'{package.name}: {text}')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
