"""A start from a config, as the Runner makes it.

What the Runner does from a config until training begins: build the model,
initialize it, load what the config names.
"""

import copy
from typing import Any, Iterator, List, Optional, Set, Tuple, Union

import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from .functions import origins_of
from .model.origins import Origins
from .model.second import Build, Files
from .model.whole import WholeModel
from .processes.ranks import on_all_ranks


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model, whatever the config holds left as it is."""
    model = copy.deepcopy(cfg.model)
    if isinstance(model, nn.Module):
        return model
    if cfg.get('data_preprocessor') is not None:
        preprocessor = copy.deepcopy(cfg.data_preprocessor)
        model.setdefault('data_preprocessor', preprocessor)
    return MODELS.build(model)


def init_model(model: nn.Module) -> None:
    """Initialize a model, where it has something to say about that."""
    if hasattr(model, 'init_weights'):
        model.init_weights()


def train_batch(cfg: Config, most: int, seed: int) -> Any:
    """The first batch that a config trains with, as the Runner's dataloader
    gives it, in this process.

    Args:
        cfg (Config): The config.
        most (int): How many samples it has at most.
        seed (int): The run's.
    """
    # Which imports DeepSpeed, where it is installed; that takes its time.
    from mmengine.runner import Runner

    loader = copy.deepcopy(cfg.train_dataloader)
    loader['num_workers'] = 0
    for key in ('persistent_workers', 'prefetch_factor', 'timeout'):
        loader.pop(key, None)
    if 'batch_size' in loader:
        loader['batch_size'] = min(loader['batch_size'], most)
    return next(iter(Runner.build_dataloader(loader, seed=seed)))


def build_again(cfg: Any, scope: Any = None) -> Union[Build, str]:
    """How to make a Runner's model once more, but for what ``load_from``
    brings; or why that cannot be done. Without a scope, it is the config's.
    """
    model = cfg.get('model') if cfg else None
    if isinstance(model, nn.Module):
        return 'the model was given as an object'
    if any(isinstance(part, nn.Module) for part in _parts(model)):
        # A copy of it would come out the same, drawn or not.
        return 'a part of the model was given as an object'
    if not model:
        return 'the Runner was given no config of its model'

    def build() -> nn.Module:
        named = scope or cfg.get('default_scope') or 'mmengine'
        with DefaultScope.overwrite_default_scope(named):
            model = build_model(cfg)
            init_model(model)
        return model

    return build


def start_of(
    runner: Any, again: bool, files: Files
) -> Tuple[WholeModel, Origins]:
    """A Runner's model when training starts, and what decided its values.

    With several processes, all of them have to call this.

    Args:
        runner (Runner): A runner of MMEngine's.
        again (bool): Whether the model may be built once more.
        files (dict): Tensors of the file that ``load_from`` names.
    """
    with on_all_ranks():
        whole = WholeModel(runner.model)
    scope = getattr(runner.default_scope, 'scope_name', None)
    build = build_again(runner.cfg, scope) if again else 'second_start=False'
    origins = origins_of(whole, build, files)
    origins.expected = names_checkpoint(runner.cfg)
    return whole, origins


def resumed_names(runner: Any, checkpoint: Any) -> Optional[Set[str]]:
    """The names in a checkpoint that a Runner loads to resume from it, at an
    iteration above 0; None where it does not. A train loop of one's own may
    count in another way, so that its iteration does not tell.
    """
    # Not public: what the Runner was asked for.
    if not runner._resume or checkpoint.get('meta', {}).get('iter', 1) == 0:
        return None
    return set(checkpoint.get('state_dict', checkpoint))


def has_trained(runner: Any) -> bool:
    """Whether a Runner is beyond its first iteration, by its loop's word or by
    what it set there itself when it resumed.
    """
    return runner.iter > 0 or getattr(runner.train_loop, '_iter', 0) > 0


def names_checkpoint(cfg: Any) -> bool:
    """Whether a config names a file of weights."""
    return bool(cfg.get('load_from')) or any(
        part.get('checkpoint')
        for part in _parts(cfg.get('model'))
        if isinstance(part, dict) and 'Pretrained' in str(part.get('type'))
    )


def _parts(cfg: Any) -> Iterator[Any]:
    """A part of a config, and all that is in it."""
    yield cfg
    if isinstance(cfg, dict):
        cfg = list(cfg.values())
    for value in cfg if isinstance(cfg, (list, tuple)) else ():
        yield from _parts(value)


def optimized(runner: Any) -> List[Tensor]:
    """The parameters that a Runner's optimizers update."""
    groups = runner.optim_wrapper.param_groups
    # One list of groups, or one for each of several optimizers.
    lists = groups.values() if isinstance(groups, dict) else [groups]
    return [p for groups in lists for g in groups for p in g['params']]
