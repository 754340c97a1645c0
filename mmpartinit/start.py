"""A start from a config, as the Runner makes it.

What the Runner does from a config until training begins: build the model,
initialize it, load what the config names.
"""

import copy
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import torch.nn as nn
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.utils import is_method_overridden

from .errors import Collector, Finding, short, told
from .functions import origins_of
from .model.origins import Origins
from .model.second import Build, Files
from .model.whole import WholeModel
from .processes.ranks import on_all_ranks

_NAME = 'mmpartinit'


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


def load_weights(
    model: nn.Module, cfg: Config, hooks: Sequence[Hook], wrong: Collector
) -> None:
    """Load what ``load_from`` names, where it names something.

    Hooks that have a say in that are called as the Runner calls them: they may
    change what was read, or refuse it. What goes wrong in them is gathered,
    and the file loaded without them.

    Args:
        model (nn.Module): What to load into.
        cfg (Config): Its config.
        hooks (list[Hook]): The hooks of the config, but for ours.
        wrong (Collector): For what goes wrong in hooks.
    """
    event = 'after_load_checkpoint'
    hooks = [h for h in hooks if is_method_overridden(event, Hook, h)]
    if not hooks:
        if cfg.get('load_from'):
            # Which imports DeepSpeed, where it is installed; see below.
            from mmengine.runner import load_checkpoint

            load_checkpoint(model, cfg.load_from, 'cpu', logger='current')
        return
    runner = _runner_without_data(model, cfg)

    def call(name: str, **arguments: Any) -> None:
        for hook in list(runner._hooks):
            try:
                getattr(hook, name)(runner, **arguments)
            except Exception as error:  # anybody's code
                runner._hooks.remove(hook)
                what = f'{type(hook).__name__}.{name}'
                if "'Runner' object has no attribute" in str(error):
                    text = f'{what} was not called, for lack of a run: {error}'
                    found = Finding('warning', 'not-called', text)
                    wrong.findings.append(found)
                else:
                    wrong.add('hooks', f'{what} raised {told(error)}')

    runner.call_hook = call
    for hook in hooks:
        runner.register_hook(hook)
    call('before_run')
    if cfg.get('load_from'):
        runner.load_checkpoint(cfg.load_from)


def _runner_without_data(model: nn.Module, cfg: Config) -> Any:
    """A Runner that loads weights: it has what hooks may ask for then, and no
    folder, no dataloader, no visualizer and no process group.
    """
    # It imports DeepSpeed, which takes its time, and talks.
    from mmengine.runner import Runner

    # Its constructor sets up all of these; not public is what they are kept
    # in.
    runner = Runner.__new__(Runner)
    runner.model, runner.cfg, runner._hooks = model, cfg, []
    runner.logger = MMLogger.get_current_instance()
    runner.message_hub = MessageHub.get_current_instance()
    runner._experiment_name = cfg.get('experiment_name') or _NAME
    runner._work_dir = cfg.get('work_dir') or 'work_dirs'
    runner._launcher, runner._distributed = 'none', False
    runner._rank, runner._world_size = 0, 1
    runner._load_from, runner._resume = cfg.get('load_from'), False
    runner._has_loaded = False
    runner._train_loop = cfg.get('train_cfg')
    return runner


def train_batch(cfg: Config, most: int, seed: int) -> Any:
    """The first batch that a config trains with, as the Runner's dataloader
    gives it, in this process.

    Args:
        cfg (Config): The config.
        most (int): How many samples it has at most.
        seed (int): The run's.
    """
    # Which imports DeepSpeed, as above.
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
    origins.classes = train_classes(runner.cfg)
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


def train_classes(cfg: Any) -> Union[List[str], str]:
    """Names of the classes that a config trains on, or why they are not
    known: what its train dataset is told to have, or what its class has,
    without it being built. What wraps datasets has those of the first.
    """
    data = cfg.get('train_dataloader') or {}
    data = data.get('dataset') if isinstance(data, dict) else data
    while isinstance(data, dict) and ('dataset' in data or 'datasets' in data):
        data = data.get('dataset') or (data.get('datasets') or [None])[0]
    if not isinstance(data, dict):
        return 'the config has no train dataset, as a dict, to take them from'
    kind = data.get('type')
    if isinstance(kind, str):
        try:
            with DATASETS.switch_scope_and_registry(None) as registry:
                kind = registry.get(kind) or kind
        # Importing a library's datasets runs anybody's code, and may need
        # packages that its models do not.
        except Exception as error:
            return f'the train dataset cannot be imported: {told(error)}'
    said = data.get('metainfo')
    said = said if isinstance(said, dict) else None
    load = getattr(kind, '_load_metainfo', None)  # as it reads them itself
    meta = (load(said) if load else said) or {}
    names = meta.get('classes')
    if isinstance(names, (list, tuple)) and names:
        return list(names)
    return (
        f"the config's train dataset, {short(kind)}, has no `classes` in its "
        'metainfo'
    )


def _parts(cfg: Any) -> Iterator[Any]:
    """A part of a config, and all that is in it."""
    yield cfg
    if isinstance(cfg, dict):
        cfg = list(cfg.values())
    for value in cfg if isinstance(cfg, (list, tuple)) else ():
        yield from _parts(value)


def optimized(runner: Any) -> List[Dict[str, Any]]:
    """The parameter groups of a Runner's optimizers."""
    groups = runner.optim_wrapper.param_groups
    # One list of groups, or one for each of several optimizers.
    lists = groups.values() if isinstance(groups, dict) else [groups]
    return [group for groups in lists for group in groups]
