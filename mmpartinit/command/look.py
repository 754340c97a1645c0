"""The model of a config, with the weights that the config loads.

What a Runner does before the first hook initializes anything, without a
Runner: no data, no device, no work_dir, nothing written.
"""

import os.path as osp
import pickle
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set

import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, find_latest_checkpoint

from ..checks.uncovered import uncovered
from ..errors import Collector, Finding, nearest, short, some
from ..functions import origins_of
from ..model.blocks import outermost_new
from ..model.origins import Origins
from ..model.second import Files, files_read
from ..model.tree import Node
from ..model.whole import WholeModel
from ..start import (
    build_again,
    build_model,
    init_model,
    load_weights,
    names_checkpoint,
    train_classes,
)
from .bases import replaced
from .hooks import built_hooks, our_hooks
from .reading import weights_only

_WITHOUT = '; --no-weights plans without them'


class LookError(Exception):
    """A config whose model cannot be looked at; the message says why."""


class Resume(NamedTuple):
    """A checkpoint that a run resumes from.

    Attributes:
        file (str): Its name.
        iteration (int): Where it goes on.
        names (list[str]): Its tensors.
    """

    file: str
    iteration: int
    names: List[str]


@dataclass
class Look:
    """What a config builds.

    Attributes:
        cfg (Config): The config.
        whole (WholeModel): Its model, with the weights that it loads.
        origins (Origins): What decided the values that it holds.
        hooks (list[dict]): The config's CustomModuleInitHooks, their `type` a
            class.
        resumes (Resume, optional): What the run goes on from, where it finds
            that.
        wrong (list[Finding]): What is wrong with the config's hooks.
        weights (bool): Whether weights were asked for.
    """

    cfg: Config
    whole: WholeModel
    origins: Origins
    hooks: List[Dict[str, Any]]
    resumes: Optional[Resume] = None
    wrong: List[Finding] = field(default_factory=list)
    weights: bool = True

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return self.whole.model

    @property
    def new(self) -> Set[str]:
        """Names of what is new beside loaded tensors, covered or not."""
        return set(uncovered(self.whole.tree, self.origins, ()))

    @property
    def new_parts(self) -> List[Node]:
        """The largest parts of the model that are new."""
        return outermost_new(self.whole.tree, self.new)


def read_config(name: str, options: Optional[Dict[str, Any]] = None) -> Config:
    """Read a config and import what its ``custom_imports`` name.

    Args:
        name (str): A file, or a config of a package as ``_base_`` names it,
            such as ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``.
        options (dict, optional): Values to change, by dotted keys. Defaults
            to None.

    Raises:
        LookError: If there is no such config, or it cannot be read.
    """
    is_packaged = '::' in name
    with _told(f'the config {name} cannot be read'):
        if is_packaged:
            # As a base, for `mmengine.hub` would install missing packages.
            cfg = Config.fromstring(f'_base_ = {name!r}\n', '.py')
        else:
            cfg = _from_file(name)
    with _told('--cfg-options cannot be merged into the config'):
        cfg.merge_from_dict(options or {})
    return cfg


def _from_file(name: str) -> Config:
    try:
        return Config.fromfile(name)
    except TypeError:
        cfg = Config.fromfile(name, import_custom_modules=False)
        custom = cfg.get('custom_imports')
        keys = ['imports', 'allow_failed_imports']
        strange = custom
        if isinstance(custom, dict):
            strange = next((key for key in custom if key not in keys), keys)
        if strange is keys:
            raise
        near = nearest(str(strange), keys)
        text = f'not {short(custom)}{near}'
        raise LookError(
            '`custom_imports` is dict(imports=[...], allow_failed_imports='
            f'False), {text}'
        ) from None


def look(cfg: Config, weights: bool = True) -> Look:
    """Build a config's model and load what the config loads.

    Without ``weights``, nothing is initialized, no checkpoint is read, and
    nothing counts as loaded.

    Raises:
        LookError: If the model cannot be built, or its weights not loaded.
    """
    if not cfg.get('model'):
        raise LookError(
            f'the config {cfg.filename} has no `model`; name a whole config, '
            'not a base file'
        )
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    with _told('the hooks of the config cannot be found'):
        hooks = our_hooks(cfg)
        wrong = Collector()
        others = built_hooks(cfg, wrong)
    files: Files = {}
    with weights_only(), files_read(files):
        with _told('the model cannot be built', _hint(cfg)):
            model = build_model(cfg)
        if not weights:
            whole = WholeModel(model)
            return Look(
                cfg, whole, Origins(), hooks, None, wrong.findings, False
            )
        with _told(
            f'cannot load the weights of the model{_asked(cfg)}',
            _WITHOUT,
        ):
            init_model(model)
        what = f'cannot load the weights of load_from={cfg.get("load_from")!r}'
        with _told(what, _WITHOUT):
            load_weights(model, cfg, others, wrong)
        whole = WholeModel(model)
        origins = origins_of(whole, build_again(cfg), files)
        origins.expected = names_checkpoint(cfg)
        origins.classes = train_classes(cfg)
        with _told('the checkpoint to resume from cannot be read'):
            resumes = _resume(cfg)
        return Look(cfg, whole, origins, hooks, resumes, wrong.findings)


def _resume(cfg: Config) -> Optional[Resume]:
    """What a run resumes from, read and not resumed."""
    if not cfg.get('resume'):
        return None
    stem = osp.splitext(osp.basename(cfg.filename or ''))[0]
    work_dir = cfg.get('work_dir') or osp.join('work_dirs', stem)
    file = cfg.get('load_from')
    if not file and osp.isdir(work_dir):
        file = find_latest_checkpoint(work_dir)
    if not file:
        return None
    checkpoint = CheckpointLoader.load_checkpoint(file, map_location='cpu')
    iteration = checkpoint.get('meta', {}).get('iter', 1)
    names = list(checkpoint.get('state_dict', checkpoint))
    return Resume(file, iteration, names) if iteration else None


def _asked(cfg: Config) -> str:
    """The keys of a config's model that name checkpoints, and the names."""
    found: List[str] = []

    def walk(part: Any, key: str) -> None:
        if isinstance(part, dict):
            part = dict(part.items())
        elif isinstance(part, (list, tuple)):
            part = dict(enumerate(part))
        elif isinstance(part, str) and key.endswith('.checkpoint'):
            found.append(f'{key}={part!r}')
        for below, value in part.items() if isinstance(part, dict) else ():
            walk(value, f'{key}.{below}')

    walk(cfg.model, 'model')
    return f' ({some(found, 3)})' if found else ''


def _hint(cfg: Config) -> str:
    """What may be why a class is not known."""
    found = [f for f in replaced(cfg) if f.code == 'replaced-imports']
    return ''.join(f'; {finding.message}' for finding in found)


@contextmanager
def _told(what: str, hint: str = '') -> Iterator[None]:
    """Say in a sentence what went wrong, whatever it was.

    A config and its model run anybody's code, which raises anything.
    """
    try:
        yield
    except LookError as error:
        raise LookError(f'{what}: {error}') from error
    except Exception as error:
        raise LookError(f'{what}: {_sentence(error)}{hint}') from error


def _sentence(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        more = re.search(r'Unsupported global: GLOBAL (\S+)', str(error))
        if more is None:
            return 'what torch reads there is no checkpoint, or a damaged one'
        return (
            f'a checkpoint holds more than tensors and plain data ({more[1]}) '
            'and is read with weights_only; save its state dict by itself if '
            'you trust the file'
        )
    # MMEngine's own says which search path it had; the first says what failed.
    inner = error.__cause__ or error.__context__
    while isinstance(inner, ImportError):
        error, inner = inner, inner.__cause__ or inner.__context__
    text = f'{type(error).__name__}: {_first_line(error)}'
    if isinstance(error, ImportError):
        text += (
            " (later setuptools have none: pip install 'setuptools<81')"
            if getattr(error, 'name', '') == 'pkg_resources'
            else ' (is it installed, or its folder on PYTHONPATH?)'
        )
    return text


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else repr(error)
    return text if len(text) <= 300 else text[:297] + '...'
