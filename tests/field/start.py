"""A real start of a config: a Runner, until its training begins."""

import uuid
from typing import Any, Dict, Optional, Tuple

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

from mmpartinit import CustomModuleInitHook, InitReport


class StartedError(Exception):
    """Training starts."""


@HOOKS.register_module()
class StopHook(Hook):
    """Stops where training would start."""

    priority = 'LOWEST'

    def before_train(self, runner: Any) -> None:
        raise StartedError


@DATASETS.register_module()
class NothingToSee(Dataset):
    """Data that are never read."""

    metainfo: Dict[str, Any] = {}

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> None:
        raise AssertionError('no data should be read')


def started(cfg: Config) -> Tuple[InitReport, Dict[str, Tensor]]:
    """Start a config that has our hook.

    Returns:
        tuple: Its report, and the state dict.
    """
    runner = _train(cfg)
    hooks = [h for h in runner.hooks if isinstance(h, CustomModuleInitHook)]
    return hooks[0].report, runner.model.state_dict()


def no_start(cfg: Config) -> Optional[Exception]:
    """Why a config does not start without our hook; None if it does."""
    try:
        _train(cfg)
    except Exception as error:  # upstream's
        return error
    return None


def _train(cfg: Config) -> Runner:
    """Train with a config, without data or a GPU, until training starts."""
    cfg.experiment_name = uuid.uuid4().hex
    cfg.visualizer = dict(type='Visualizer', vis_backends=[])
    cfg.log_level = 'ERROR'
    for part in ('val', 'test'):
        for key in ('cfg', 'dataloader', 'evaluator'):
            cfg[f'{part}_{key}'] = None
    cfg.train_dataloader = dict(
        dataset=dict(type='NothingToSee'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=1,
        num_workers=0,
    )
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper':
        cfg.optim_wrapper.type = 'OptimWrapper'
        for key in ('dtype', 'loss_scale', 'use_fp16'):
            cfg.optim_wrapper.pop(key, None)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='StopHook')]
    runner = Runner.from_cfg(cfg)
    try:
        runner.train()
    except StartedError:
        pass
    finally:
        while runner.logger.handlers:
            runner.logger.handlers.pop().close()
    return runner
