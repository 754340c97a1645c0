"""The packages whose configs are tried, and what of them can be had."""

import importlib
import importlib.metadata
import importlib.util
import os
import random
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple
from unittest.mock import patch

import torch
from mmengine.config import Config, ConfigDict

# What a message of upstream's says where a package is missing.
_PACKAGE = re.compile(
    r"No module named '(\w+)|(\w+) is not installed|'imports': \['(\w+)"
    r'|install (?!it\b|openmim\b)(\w+)'
)
_LOADING = dict(
    pretrained=None,
    teacher_ckpt=None,
    pretrained2d=False,
    clip_pretrained=False,
)


class Package(NamedTuple):
    """A package, by the name that it is imported by.

    Attributes:
        distribution (str): What pip calls it.
        told (dict): What names of other modules hold while it is imported:
            older versions, where it refuses later ones by their number.
        absent (dict): Modules that it imports and that are not there, with
            the name that it takes from each.
        adds (str): A pattern of tensors to which an `init_weights` of its adds
            what it would write: what comes of that depends on what is there.
    """

    distribution: str
    told: Dict[str, Any] = {}
    absent: Dict[str, str] = {}
    adds: str = ''

    @property
    def version(self) -> str:
        """The one that is installed; '' where none is."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return ''


# Which is built for NumPy 1.
_XTCOCO = {
    'xtcocotools.coco': 'COCO',
    'xtcocotools.cocoeval': 'COCOeval',
    'xtcocotools.mask': 'frPyObjects',
}
_OLDER = {'mmdet.__version__': '3.1.0', 'collections.Sequence': Sequence}
PACKAGES = dict(
    mmdet=Package('mmdet'),
    mmseg=Package('mmsegmentation'),
    mmpretrain=Package('mmpretrain'),
    mmpose=Package('mmpose', absent=_XTCOCO),
    mmaction=Package(
        # Left out of what is released.
        'mmaction2',
        absent={'mmaction.models.localizers.drn.drn': 'DRN'},
    ),
    mmyolo=Package(
        'mmyolo',
        {'mmcv.__version__': '2.0.1', **_OLDER},
        _XTCOCO,
        r'bbox_head\.head_module\..*\.bias',
    ),
    mmrotate=Package('mmrotate', _OLDER),
    mmdet3d=Package('mmdet3d'),
)


def bring(name: str) -> None:
    """Import a package with its models."""
    package = PACKAGES[name]
    if has_torchvision():
        bring_torchvision()
    for module, taken in package.absent.items():
        for path in (module.rpartition('.')[0], module):
            sys.modules.setdefault(path, ModuleType(path))
        setattr(sys.modules[module], taken, None)
    with _told(package.told):
        importlib.import_module(f'{name}.models')


def has_torchvision() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec('torchvision') is not None


def bring_torchvision() -> None:
    """Import torchvision, also where it was built for CUDA and PyTorch was
    not: its operators cannot be loaded then, and its Python code names two.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        of = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
        for operator in ('nms', 'qnms'):
            torch.library.define(f'torchvision::{operator}', of)
        import torchvision  # noqa: F401


@contextmanager
def _told(names: Dict[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in names.items():
            module, _, attribute = name.rpartition('.')
            of = vars(importlib.import_module(module))
            stack.enter_context(patch.dict(of, {attribute: value}))
        yield


def root(name: str) -> Path:
    """The folder that a package's configs lie in."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent / '.mim' / 'configs'


def config_files(name: str) -> List[str]:
    """Names of a package's config files, in order."""
    folder = root(name)
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*.py'))


def choose(
    name: str, sample: Optional[int], seed: int
) -> Iterator[Tuple[str, str]]:
    """Choose configs of a package.

    Args:
        name (str): The package.
        sample (int, optional): How many of different models, by the seed; all
            files if None.
        seed (int): The seed.

    Yields:
        tuple[str, str]: A config, and the one before it that has the same
        model, or ''. With a sample there is none such.
    """
    files = config_files(name)
    if sample is not None:
        files = [file for file in files if not is_base(file)]
        random.Random(seed).shuffle(files)
    first: Dict[str, str] = {}
    for file in files:
        if sample is not None and len(first) == sample:
            return
        key = _model_key(name, file)
        if sample is not None and (key == '' or key in first):
            continue
        other = first.setdefault(key or file, file)
        yield file, '' if other == file else other


def _model_key(name: str, file: str) -> str:
    """The same for two configs if their models are; '' for none."""
    try:
        return repr(model_cfg(name, read(name, file)).to_dict())
    except NoModelError:
        return ''
    except Exception:
        return file  # it is for the trial to say why


class NoModelError(Exception):
    """A config that is not there to be built."""


def is_base(file: str) -> bool:
    """Whether a config file is one for others to inherit from."""
    return '_base_' in Path(file).parts


def read(name: str, file: str) -> Config:
    """A config of a package."""
    if is_base(file):
        raise NoModelError('a base file, not a whole config')
    cfg = Config.fromfile(root(name) / file)
    if not cfg.get('model'):
        raise NoModelError('has no model: a part for other configs')
    return cfg


def model_cfg(name: str, cfg: Config) -> ConfigDict:
    """The model of a config, without what loads weights."""
    return ConfigDict(_without_weights(cfg.model.to_dict()))


def _without_weights(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get('checkpoint'), str):
            return None
        return {
            key: _LOADING[key] if key in _LOADING else _without_weights(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        items = [(item, _without_weights(item)) for item in value]
        return type(value)(
            new for old, new in items if old is None or new is not None
        )
    return value


def reason(error: BaseException, name: str) -> str:
    """Why something of a package does not go, in a line."""
    if isinstance(error, NoModelError):
        return str(error)
    text = ' '.join(f'{type(error).__name__}: {error}'.split())
    for groups in _PACKAGE.findall(text):
        package = ''.join(groups).lower()
        if importlib.util.find_spec(package) is None:
            return f'{package} is not installed'
    return text.replace(f'{root(name)}{os.sep}', '')[:300]
