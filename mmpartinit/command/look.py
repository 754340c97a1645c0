"""The model of a config, with the weights that the config loads.

What a Runner does before the first hook initializes anything, without a
Runner: no data, no device, no work_dir, nothing written.
"""

import os
import os.path as osp
import pickle
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import (
    CheckpointLoader,
    find_latest_checkpoint,
    load_checkpoint,
)
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.utils import digit_version

from ..functions import origins_of
from ..model.origins import Origins
from ..model.second import Files, files_read
from ..model.whole import WholeModel
from ..start import build_again, build_model, init_model, names_checkpoint
from .hooks import our_hooks, replaced

_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_NOT_ONLY = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
_ALLOWED = 'get_torch_safe_globals'
# What MMEngine's checkpoints hold beside tensors and plain data: a history of
# what was logged. Nothing here needs it.
_NOT_NEEDED = (
    'builtins.getattr',
    'mmengine.logging.history_buffer.HistoryBuffer',
    'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar',
    'numpy.dtype',
    'numpy.ndarray',
)


class _Nothing:
    """Stands for what is not needed of a checkpoint."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


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
    """

    cfg: Config
    whole: WholeModel
    origins: Origins
    hooks: List[Dict[str, Any]]
    resumes: Optional[Resume] = None

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return self.whole.model


def read_config(name: str, options: Optional[Dict[str, Any]] = None) -> Config:
    """Read a config and import what its ``custom_imports`` name.

    Args:
        name (str): A file, or a config of a package as ``_base_`` names it,
            such as ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``.
        options (dict, optional): Values to change, by dotted keys. Defaults
            to None.

    Raises:
        LookError: If there is no such config, or it does not parse.
    """
    is_packaged = '::' in name
    if not is_packaged and not osp.isfile(name):
        raise LookError(f'there is no config file {name!r}')
    with _told(f'the config {name} cannot be read'):
        if is_packaged:
            # As a base, for `mmengine.hub` would install missing packages.
            cfg = Config.fromstring(f'_base_ = {name!r}\n', '.py')
        else:
            cfg = Config.fromfile(name)
    with _told('--cfg-options cannot be merged into the config'):
        cfg.merge_from_dict(options or {})
    return cfg


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
    files: Files = {}
    with _weights_only(), files_read(files):
        with _told('the model cannot be built', _hint(cfg)):
            model = build_model(cfg)
        if not weights:
            return Look(cfg, WholeModel(model), Origins(), hooks)
        with _told(
            'the weights that the config asks for cannot be had',
            '; --no-weights plans without them',
        ):
            init_model(model)
            if cfg.get('load_from'):
                load_checkpoint(
                    model, cfg.load_from, map_location='cpu', logger='current'
                )
        whole = WholeModel(model)
        origins = origins_of(whole, build_again(cfg), files)
        origins.expected = names_checkpoint(cfg)
        with _told('the checkpoint to resume from cannot be read'):
            return Look(cfg, whole, origins, hooks, _resume(cfg))


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
    except Exception as error:
        raise LookError(f'{what}: {_sentence(error)}{hint}') from error


def _sentence(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return (
            'a checkpoint holds more than tensors and plain data, and is read '
            'with weights_only; save its state dict by itself if you trust '
            f'the file ({_first_line(error)})'
        )
    # MMEngine's own says which search path it had; the first says what failed.
    inner = error.__cause__ or error.__context__
    while isinstance(inner, ImportError):
        error, inner = inner, inner.__cause__ or inner.__context__
    text = f'{type(error).__name__}: {_first_line(error)}'
    if isinstance(error, ImportError):
        text += ' (is it installed, or its folder on PYTHONPATH?)'
    return text


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else repr(error)
    return text if len(text) <= 300 else text[:297] + '...'


@contextmanager
def _weights_only() -> Iterator[None]:
    """Have all checkpoints read with `weights_only`, by whatever code: nothing
    that a file names is imported or called.
    """
    before = {key: os.environ.get(key) for key in (_ONLY, _NOT_ONLY)}
    os.environ.pop(_NOT_ONLY, None)
    os.environ[_ONLY] = '1'
    # onedl-mmengine allows `getattr` and others to be called. Of its list and
    # of ours, torch would take either entry for a name.
    allowed = getattr(mmengine_checkpoint, _ALLOWED, None)
    if allowed is not None:
        setattr(mmengine_checkpoint, _ALLOWED, list)
    try:
        if digit_version(torch.__version__) < digit_version('2.6.0'):
            yield
        else:
            nothings = [(_Nothing, name) for name in _NOT_NEEDED]
            with torch.serialization.safe_globals(nothings):
                yield
    finally:
        if allowed is not None:
            setattr(mmengine_checkpoint, _ALLOWED, allowed)
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
