"""What depends on the versions that the tests run with."""

import pytest
import torch
from mmengine.utils import digit_version


def since_torch(version):
    """Marks a test of what PyTorch has since a version."""
    return pytest.mark.skipif(
        digit_version(torch.__version__) < digit_version(version),
        reason=f'needs PyTorch {version} or newer',
    )
