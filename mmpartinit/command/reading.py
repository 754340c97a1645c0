"""Checkpoints read without running what is in them."""

import os
from contextlib import contextmanager
from typing import Any, Iterator

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.utils import digit_version

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


class Nothing:
    """Stands for what is not needed of a checkpoint."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


@contextmanager
def weights_only() -> Iterator[None]:
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
            nothings = [(Nothing, name) for name in _NOT_NEEDED]
            with torch.serialization.safe_globals(nothings):
                yield
    finally:
        if allowed is not None:
            setattr(mmengine_checkpoint, _ALLOWED, allowed)
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
