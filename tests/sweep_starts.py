"""Plan mmdet's configs with new blocks in them, start them, and compare.

``python tests/sweep_starts.py [--sample N] [--json FILE]``. Each model gets
new blocks, a checkpoint of six in seven of its tensors and a rule; what
``mmpartinit plan`` says of each tensor has to be what a Runner's report says
when training starts, values included. Of configs with the same model one is
tried. The exit status is 1 where a plan and a start do not agree, or one of
them fails.
"""

import argparse
import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner
from sweep import (
    TIMEOUT,
    WORKERS,
    _is_base,
    _model_cfg,
    _model_key,
    _reason,
    _root,
    _start_worker,
    _time_limit,
    config_files,
)
from torch.utils.data import Dataset

from mmpartinit import CustomModuleInitHook, InitReport
from mmpartinit.command.look import look
from mmpartinit.command.planning import plan_config
from mmpartinit.start import build_model

BLOCKS = 4  # in each model, in modules with such layers
LAYERS = (nn.Conv2d, nn.Linear)
RULES = [
    dict(
        path='**.grown',
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', layer='BatchNorm2d', val=0.5),
        ],
    ),
    # Only what is not in the checkpoint: it is the rest that is kept.
    dict(path='**.bias', init_cfg=dict(type='Constant', val=0.25)),
]


@dataclass
class Result:
    """What became of one config.

    Attributes:
        config (str): Its name, relative to mmdet's folder of configs.
        status (str): ``'agree'``; ``'skipped'``, where upstream gave no model
            or no start without us; ``'differ'``.
        reason (str): Why, where it was skipped or differs.
        tensors (int): How many tensors were compared.
        written (int): How many of them a rule wrote.
        seconds (float): How long plan and start took.
    """

    config: str
    status: str = 'skipped'
    reason: str = ''
    tensors: int = 0
    written: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f'{self.config}: {self.status}, {self.tensors} tensors, '
            f'{self.written} written, {self.seconds:.0f} s {self.reason}'
        )


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


@MODELS.register_module()
def grown(of: str, **arguments: Any) -> nn.Module:
    """A model with new blocks in some of its modules; they are not run."""
    model = MODELS.build(dict(type=of, **arguments))
    holders = [
        (path.partition('.')[2], module)
        for path, module in model.named_modules()
        if not isinstance(module, (nn.Sequential, nn.ModuleList))
        and any(isinstance(child, LAYERS) for child in module.children())
    ]
    # In a teacher where they are in its student.
    places = list(dict.fromkeys(place for place, _ in holders))
    places = places[:: max(1, len(places) // BLOCKS)]
    for module in (module for place, module in holders if place in places):
        module.grown = nn.Sequential(
            nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 8, 1)
        )
    return model


def run(name: str) -> Result:
    """Plan a config and start it."""
    result = Result(name)
    start = time.perf_counter()
    try:
        with _time_limit(TIMEOUT), tempfile.TemporaryDirectory() as folder:
            with redirect_stdout(io.StringIO()):
                _try(_config(name, folder), result)
    except Exception as error:
        result.reason = _reason(error)
    result.seconds = time.perf_counter() - start
    return result


def _try(cfg: Config, result: Result) -> None:
    ours = Config(cfg.to_dict())
    ours.load_from = os.path.join(cfg.work_dir, 'weights.pth')
    torch.save(_weights(cfg), ours.load_from)
    ours.model = dict(cfg.model, type='grown', of=cfg.model.type)
    try:
        _compare(ours, result)
    except Exception as error:
        _train(cfg, [])  # does it start without us?
        result.status, result.reason = 'differ', _reason(error)


def _config(name: str, folder: str) -> Config:
    """A config with everything but data, a GPU and weights."""
    model = _model_cfg(name)
    cfg = Config.fromfile(_root() / name)
    cfg.model = model
    cfg.work_dir = folder
    cfg.load_from, cfg.resume = None, False
    cfg.randomness = dict(seed=0)
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
    return cfg


def _weights(cfg: Config) -> Dict[str, Any]:
    """Tensors of the model without new blocks; one in seven is left out."""
    torch.manual_seed(1)
    state = build_model(cfg).state_dict()
    names = [name for i, name in enumerate(state) if i % 7]
    return dict(state_dict={name: state[name] for name in names})


def _train(cfg: Config, hooks: List[Dict[str, Any]]) -> Optional[InitReport]:
    """Train with a config, until training starts."""
    cfg = Config(cfg.to_dict())
    cfg.experiment_name = uuid.uuid4().hex
    cfg.custom_hooks = [
        *cfg.get('custom_hooks', []),
        *hooks,
        dict(type='StopHook'),
    ]
    runner = Runner.from_cfg(cfg)
    try:
        runner.train()
    except StartedError:
        pass
    finally:
        while runner.logger.handlers:
            runner.logger.handlers.pop().close()
    found = [h for h in runner.hooks if isinstance(h, CustomModuleInitHook)]
    return found[0].report if found else None


def _compare(cfg: Config, result: Result) -> None:
    hook = dict(type='CustomModuleInitHook', modules=RULES)
    planned = Config(cfg.to_dict())
    planned.custom_imports = dict(imports=['mmpartinit'])
    planned.custom_hooks = [*cfg.get('custom_hooks', []), hook]
    plan = plan_config(look(planned))
    wrong = [f.message for f in plan.findings if f.level == 'error']
    report = _train(cfg, [hook])
    assert report is not None
    told, found = _tensors(plan), _tensors(report)
    result.tensors = len(found)
    result.written = sum(len(rule.wrote) for rule in report.rules)
    different = [name for name in found if found[name] != told.get(name)]
    result.status = 'differ'
    if wrong:
        result.reason = f'the plan has errors: {wrong[0]}'
    elif different or told.keys() != found.keys():
        name = (different or sorted(told.keys() - found.keys()))[0]
        result.reason = (
            f'{len(different)} tensors: {name} is {told.get(name)} in the '
            f'plan and {found.get(name)} at the start'
        )
    elif [f.code for f in plan.findings] != [f.code for f in report.findings]:
        result.reason = f'{plan.findings} and {report.findings}'[:500]
    else:
        result.status = 'agree'
    assert result.written >= 4 * BLOCKS


def _tensors(report: InitReport) -> Dict[str, Tuple[Any, ...]]:
    """What is said of each tensor; of what no rule wrote, without how large
    its values are, for what is built is drawn anew.
    """
    return {
        t.name: (t.origin, t.rule, t.key)
        + ((t.mean, t.std) if t.origin == 'rule' else ())
        for t in report.tensors
    }


def sweep_starts(sample: Optional[int] = None) -> List[Result]:
    """Go through mmdet's configs, in worker processes; prints each."""
    names = [n for n in config_files() if not _is_base(n)]
    if sample is not None:
        names = config_files(sample)
    results = []
    with ProcessPoolExecutor(
        WORKERS, multiprocessing.get_context('spawn'), _start
    ) as pool:
        keys = dict(zip(pool.map(_model_key, names[::-1]), names[::-1]))
        for result in pool.map(run, sorted(keys.values())):
            print(result, flush=True)
            results.append(result)
    return results


def _start() -> None:
    _start_worker()
    # A Runner sets it as the config has it.
    torch.use_deterministic_algorithms(False)
    init_default_scope('mmdet')


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the sweep; returns 1 if a plan and a start do not agree."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sample', type=int, metavar='N', help='only N')
    parser.add_argument('--json', metavar='FILE', help='write results there')
    args = parser.parse_args(argv)
    results = sweep_starts(args.sample)
    for status in ('agree', 'skipped', 'differ'):
        some = [r for r in results if r.status == status]
        tensors = sum(r.tensors for r in some)
        print(f'{len(some)} {status}, {tensors} tensors')
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump([asdict(r) for r in results], file, indent=1)
    return int(any(r.status == 'differ' for r in results))


if __name__ == '__main__':
    sys.exit(main())
