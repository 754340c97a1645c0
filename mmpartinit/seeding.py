"""Random numbers that depend on a seed and a path, and on nothing else."""

import hashlib
import random
from contextlib import contextmanager
from typing import Iterable, Iterator, List

import numpy as np
import torch
from torch import Tensor


def module_seed(seed: int, path: str, n: int = 0) -> int:
    """The seed that a module's new values are drawn from.

    ``torch.manual_seed(module_seed(seed, path))`` before
    ``initialize(module, init_cfg)`` gives the values that a rule gives.

    Args:
        seed (int): Seed of the run.
        path (str): Path of the module or parameter, without wrappers.
        n (int): How many earlier rules act on the same path. Defaults to 0.

    Returns:
        int: In [0, 2**63), for :func:`torch.manual_seed`.
    """
    digest = hashlib.blake2b(f'{seed}/{n}/{path}'.encode(), digest_size=8)
    return int.from_bytes(digest.digest(), 'big') >> 1


def cuda_devices(tensors: Iterable[Tensor]) -> List[int]:
    """Indices of the CUDA devices that the tensors are on."""
    return sorted({t.device.index for t in tensors if t.is_cuda})


@contextmanager
def random_state_kept(devices: List[int]) -> Iterator[None]:
    """Leave the global random state of Python, NumPy, torch and the numbered
    CUDA devices as it was.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def seed_everything(seed: int, devices: List[int]) -> None:
    """Seed the generators that an initializer may draw from, on the CPU and
    the numbered CUDA devices.

    The same numbers as after :func:`torch.manual_seed`, which takes 0.3 ms a
    call because it reaches for every kind of device.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    for device in devices:
        # Entering a device would take memory on it, on another rank's too.
        torch.cuda.default_generators[device].manual_seed(seed)
