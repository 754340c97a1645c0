"""One start: a config trained for 60 iterations, and what came of it."""

import hashlib
import io
import os
import tempfile
import uuid
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmpartinit.command.cli import main as command
from mmpartinit.demo import digits, run
from mmpartinit.demo.comparison import MetricCurve, find_hook

MOVED_BY = 50
DEMO = Path(run.CONFIGS)
# As in the demo, but nothing moves that has no gradient, nor by what is left
# of one by rounding, about 1e-9.
OPTIMIZER = dict(lr=3e-4, weight_decay=0.0, eps=1e-6)
State = Dict[str, torch.Tensor]


@HOOKS.register_module()
class Travel(Hook):
    """Keeps the parameters of the first iteration, and of the 50th or the
    last one.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Any) -> None:
        self.start = self.end = _parameters(runner)

    def after_train_iter(self, runner, batch_idx, **kwargs: Any) -> None:
        if runner.iter < MOVED_BY:
            self.end = _parameters(runner)

    def lengths(self) -> Dict[str, float]:
        """How far each parameter went."""
        return {
            name: float((self.end[name] - start).square().mean().sqrt())
            for name, start in self.start.items()
        }


@HOOKS.register_module()
class RandomStart(Hook):
    """Draws all that the checkpoint does not hold, and keeps no constant.

    What does not move from there, the loss cannot move.

    Args:
        weights (str): The checkpoint.
    """

    # Behind the hook of ours, were there one, and before `Travel`.
    priority = 'VERY_LOW'

    def __init__(self, weights: str) -> None:
        self.known = list(torch.load(weights).values())

    def before_train(self, runner: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        for parameter in runner.model.parameters():
            if is_in(parameter, self.known):
                continue
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 25
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(0.5 * drawn / fan_in**0.5)
            if parameter.dim() < 2:
                parameter.data.add_(0.5)


def is_in(tensor: torch.Tensor, others: List[torch.Tensor]) -> bool:
    """Whether the very same values are among others'."""
    return any(
        tensor.shape == other.shape and bool((tensor == other).all())
        for other in others
    )


def _parameters(runner: Any) -> State:
    return {
        name: parameter.detach().clone()
        for name, parameter in runner.model.named_parameters()
    }


@dataclass
class Training:
    """What came of one training.

    Attributes:
        accuracy (list[float]): Before the first iteration, and after the last
            one where there was one, in percent.
        travel (dict): How far each parameter went: root mean square.
    """

    accuracy: List[float]
    travel: Dict[str, float]


def pretrained() -> str:
    """The weights of the plain network, trained once for all runs."""
    key = hashlib.sha1(torch.__version__.encode())
    for source in [Path(digits.__file__), *sorted(DEMO.glob('*.py'))]:
        key.update(source.read_bytes())
    folder = Path(tempfile.gettempdir(), 'mmpartinit-blocks')
    folder.mkdir(exist_ok=True)
    file = folder / f'{key.hexdigest()[:12]}.pth'
    if not file.exists():
        cfg = Config.fromfile(DEMO / 'pretrain.py')
        with tempfile.TemporaryDirectory() as work_dir:
            state = _train(cfg, work_dir).model.state_dict()
        part = folder / f'{file.stem}.{os.getpid()}'
        torch.save(state, part)
        part.replace(file)  # whole, whoever else writes it
    return str(file)


def write_config(
    path: Path,
    model: Dict[str, Any],
    weights: str,
    parts: Sequence[str] = (),
) -> None:
    """Write a config as users do.

    Args:
        path (Path): The file.
        model (dict): The model.
        weights (str): What it loads.
        parts (Sequence[str]): Modules of this package that it imports.
    """
    here = [f'{__package__}.{name}' for name in parts]
    text = ''.join(
        f'{key} = {value!r}\n'
        for key, value in dict(
            _base_=str(DEMO / 'digits_base.py'),
            custom_imports=dict(
                imports=['mmpartinit.demo.digits', *here],
                allow_failed_imports=False,
            ),
            model=dict(model, _delete_=True),
            load_from=weights,
            train_dataloader=dict(batch_size=32),
            optim_wrapper=dict(optimizer=OPTIMIZER),
        ).items()
    )
    path.write_text(text)


def suggest(path: Path) -> str:
    """What `mmpartinit suggest` prints about a config."""
    out, told = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(told):
        try:
            status = command(['suggest', str(path)])
        except Exception as error:  # which is one more thing to find out
            status = 1
            print(f'{type(error).__name__}: {error}', file=told)
    # It would write to what stood for the standard output.
    MMLogger._instance_dict.pop('mmpartinit', None)
    if status:
        return f'# failed: {told.getvalue().strip()}\n'
    return out.getvalue()


def train(
    path: Path, seed: int = 0, iterations: int = 0, drawn: bool = False
) -> Training:
    """Train as a config says.

    Args:
        path (Path): The config.
        seed (int): Seed of the run.
        iterations (int): How many. Defaults to 0: only the start.
        drawn (bool): Whether all that is new is drawn.
    """
    cfg = Config.fromfile(path)
    cfg.train_cfg = dict(
        by_epoch=False, max_iters=iterations, val_interval=max(1, iterations)
    )
    cfg.randomness = dict(seed=seed)
    hooks = [dict(type='MetricCurve'), dict(type='Travel')]
    if drawn:
        hooks.append(dict(type='RandomStart', weights=cfg.load_from))
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), *hooks]
    runner = _train(cfg, str(path.parent / 'work'))
    curve = find_hook(runner, MetricCurve).curve('accuracy')
    lengths = find_hook(runner, Travel).lengths()
    return Training([value for _, value in curve], lengths)


def _train(cfg: Config, work_dir: str) -> Runner:
    cfg.work_dir = work_dir
    cfg.log_level = 'ERROR'
    cfg.experiment_name = uuid.uuid4().hex  # MMEngine has one logger for each
    # Each log has the config, which takes longer to be laid out than twenty
    # iterations take.
    plain = patch.object(Config, 'pretty_text', '')
    with plain, redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        runner = Runner.from_cfg(cfg)
        runner.train()
    # MMEngine keeps the logger of each run, and the last as the current one,
    # which `init_weights` writes to.
    while runner.logger.handlers:
        runner.logger.handlers.pop().close()
    return runner
