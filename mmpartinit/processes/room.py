"""Whether there is memory for another model on each rank."""

import os
from typing import Dict, Iterable, Optional

from mmengine.dist import get_world_size
from torch import Tensor


def no_room(tensors: Iterable[Tensor]) -> str:
    """Why there is no memory for a copy of some tensors on each rank of a
    machine; '' if there is: half of what is free is enough.
    """
    unique = {id(tensor): tensor for tensor in tensors}
    needed = sum(map(_size, unique.values()))
    needed *= int(os.environ.get('LOCAL_WORLD_SIZE', get_world_size()))
    free = _free_memory()
    if free is None or needed <= free / 2:
        return ''
    return (
        f'another model would take {needed / 2**30:.1f} GiB, more than half '
        f'of the {free / 2**30:.1f} GiB of memory that are free'
    )


def _size(tensor: Tensor) -> int:
    try:
        return tensor.numel() * max(tensor.element_size(), 4)
    except (RuntimeError, ValueError, NotImplementedError):
        return 0  # no shape yet


def _free_memory() -> Optional[int]:
    """Bytes of memory that are free to this process, where Linux tells: of its
    control group and of the machine. What files take up there can be had.
    """
    free = []
    machine = _numbers('/proc/meminfo')
    if 'MemAvailable:' in machine:
        free.append(machine['MemAvailable:'] * 1024)
    group = '/sys/fs/cgroup'
    for most, used in (
        (f'{group}/memory.max', f'{group}/memory.current'),
        (
            f'{group}/memory/memory.limit_in_bytes',
            f'{group}/memory/memory.usage_in_bytes',
        ),
    ):
        limit, usage = _numbers(most), _numbers(used)
        if limit and usage:
            stat = _numbers(os.path.join(os.path.dirname(most), 'memory.stat'))
            cached = stat.get('inactive_file', 0)
            free.append(limit[''] - usage[''] + cached)
    return min(free, default=None)


def _numbers(path: str) -> Dict[str, int]:
    """The numbers in a file of the system, by the words before them."""
    found = {}
    try:
        with open(path) as file:
            for line in file:
                words = ['', *line.split()]
                number = words[1] if len(words) == 2 else words[2]
                if number.isdigit():  # 'max' is no limit
                    found['' if len(words) == 2 else words[1]] = int(number)
    except OSError:
        pass  # there is no such thing here
    return found
