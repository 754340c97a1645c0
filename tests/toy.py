"""A small model in the form of a detector, and a real Runner around it."""

import copy
import os.path as osp
from typing import Any, Dict

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseModule, Sequential
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmpartinit import CustomModuleInitHook


class SE(nn.Module):
    """A plain module: MMEngine's init_weights never reaches it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, 4)
        self.fc2 = nn.Linear(4, channels)

    def forward(self, x):
        gate = self.fc2(self.fc1(self.norm(x)).relu())
        return x * gate.sigmoid()


class Block(BaseModule):
    def __init__(self, with_se: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.bn = nn.BatchNorm1d(8)
        self.se = SE(8) if with_se else nn.Identity()

    def forward(self, x):
        return self.se(self.bn(self.linear(x)).relu())


class Adapter(BaseModule):
    """Has an init_cfg, so it knows how to start."""

    def __init__(self) -> None:
        super().__init__(
            init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias=0.5)
        )
        self.down = nn.Linear(8, 2)
        self.up = nn.Linear(2, 8)

    def forward(self, x):
        return x + self.up(self.down(x))


@MODELS.register_module()
class ToyBackbone(BaseModule):
    def __init__(self, new: bool = True, init_cfg=None) -> None:
        super().__init__(init_cfg)
        self.stem = nn.Linear(4, 8)
        self.layer1 = Sequential(Block(new), Block(new))
        self.layer2 = Sequential(Block(new), Block(new))
        if new:
            self.gamma = nn.Parameter(torch.ones(8))

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return x * self.gamma if hasattr(self, 'gamma') else x


@MODELS.register_module()
class ToyModel(BaseModel):
    """Backbone, neck and head; ``new`` says whether it has new modules."""

    def __init__(self, new: bool = True, backbone=None, init_cfg=None) -> None:
        super().__init__(init_cfg=init_cfg)
        backbone = dict(type='ToyBackbone', new=new, **(backbone or {}))
        self.backbone = MODELS.build(backbone)
        self.neck = nn.Module()
        if new:
            self.neck.adapter = Adapter()
        self.head = nn.Linear(8, 3)

    def forward(self, inputs, labels=None, mode='tensor'):
        x = self.backbone(inputs)
        if hasattr(self.neck, 'adapter'):
            x = self.neck.adapter(x)
        scores = self.head(x)
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(scores, labels))
        return scores


@DATASETS.register_module()
class ToyData(Dataset):
    metainfo: Dict[str, Any] = {}

    def __len__(self):
        return 16

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        inputs = torch.randn(4, generator=generator)
        return dict(inputs=inputs, labels=torch.tensor(index % 3))


@METRICS.register_module()
class ToyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(score=float(len(results)))


SE_ZERO = dict(
    path='backbone.**.se.fc2', init_cfg=dict(type='Constant', val=0.0, bias=4)
)


def runner_cfg(work_dir: Any, **changes: Any) -> Dict[str, Any]:
    """Arguments of a Runner that trains two epochs of two iterations."""
    loader = dict(
        batch_size=8,
        num_workers=0,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='ToyData'),
    )
    cfg = dict(
        model=dict(type='ToyModel'),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=copy.deepcopy(loader),
        test_dataloader=copy.deepcopy(loader),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        val_cfg=dict(),
        test_cfg=dict(),
        val_evaluator=dict(type='ToyMetric'),
        test_evaluator=dict(type='ToyMetric'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='CustomModuleInitHook', modules=[SE_ZERO])],
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        randomness=dict(seed=3),
        log_level='INFO',
        experiment_name=osp.basename(str(work_dir)),
    )
    cfg.update(changes)
    return cfg


def build_runner(work_dir: Any, **changes: Any) -> Runner:
    return Runner.from_cfg(Config(runner_cfg(work_dir, **changes)))


def snapshot(model: nn.Module) -> Dict[str, torch.Tensor]:
    """A copy of the whole state dict."""
    return {k: v.clone() for k, v in model.state_dict().items()}


def pretrained(path: Any, *, shift: float = 1.0) -> Dict[str, torch.Tensor]:
    """Save the weights of the model without new modules; gives them too."""
    torch.manual_seed(11)
    state = snapshot(ToyModel(new=False))
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor += shift
    torch.save(dict(state_dict=state), str(path))
    return state


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit for bit, so that NaN equals itself and -0 does not equal 0."""
    a, b = a.detach().contiguous(), b.detach().contiguous()
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and a.numpy().tobytes() == b.numpy().tobytes()
    )


@HOOKS.register_module()
class Witness(Hook):
    """Keeps the weights that the first iteration starts from."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.starts = []

    def before_train(self, runner) -> None:
        self.starts.append(snapshot(runner.model))


def hooks(*modules, **others):
    """Custom hooks: ours with these rules, and a witness."""
    hook = dict(type='CustomModuleInitHook', modules=list(modules), **others)
    return [hook, dict(type='Witness')]


def find(runner, kind):
    """The hook of a runner that is of a kind."""
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def start_of(runner):
    """The weights that the first iteration of its last training had."""
    return find(runner, Witness).starts[-1]


def report_of(runner):
    """The report of its hook of ours."""
    return find(runner, CustomModuleInitHook).report
