"""What depends on the versions that the tests run with."""

from importlib.metadata import distributions

import mmengine
import pytest
import torch
from mmengine.utils import digit_version

TORCH = digit_version(torch.__version__)
# mmengine 0.10 has torch read checkpoints as torch does by default, which from
# 2.6 on refuses what it has put into them; onedl-mmengine has not.
READS_ITS_OWN_CHECKPOINTS = TORCH < digit_version('2.6') or (
    'onedl-mmengine' in {found.metadata['Name'] for found in distributions()}
)


def since_torch(version):
    """Marks a test of what PyTorch has since a version."""
    return pytest.mark.skipif(
        TORCH < digit_version(version),
        reason=f'needs PyTorch {version} or newer',
    )


def since_mmengine(version):
    """Marks a test of what MMEngine has since a version."""
    return pytest.mark.skipif(
        digit_version(mmengine.__version__) < digit_version(version),
        reason=f'needs MMEngine {version} or newer',
    )


def filled_in(loaded, given):
    """Names that were loaded and not given: before PyTorch 2.2, batch norm
    loads a counter of its own where a checkpoint lacks it.
    """
    if TORCH >= digit_version('2.2'):
        return set()
    counter = 'num_batches_tracked'
    return {name for name in loaded - set(given) if name.endswith(counter)}
