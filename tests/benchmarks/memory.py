"""How much memory it takes to keep loaded tensors from being written."""

import json
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn as nn
from timing import Row

from mmpartinit import init_modules

MIB = 2**20
STATUS = Path('/proc/self/status')
BLOCKS = (2, 18, 58)


class Block(nn.Module):
    """64 MiB that are loaded, and 16 KiB that are new."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4096, 4096, bias=False)
        self.adapter = nn.Linear(64, 64, bias=False)


def resident(key: str) -> int:
    """Bytes of memory in use now (VmRSS) or at most (VmHWM)."""
    line = next(x for x in STATUS.read_text().splitlines() if key in x)
    return int(line.split()[1]) * 1024


def rows():
    """A rule for the whole model, against the largest tensor it keeps, each
    in a process of its own.
    """
    for blocks in BLOCKS:
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', __file__, str(blocks)],
            stdout=subprocess.PIPE,
            check=True,
        )
        yield Row(**json.loads(done.stdout))


def measured(blocks: int) -> Row:
    """The peak for a model of so many blocks."""
    model = nn.ModuleList(Block() for _ in range(blocks))
    loaded = {name for name in model.state_dict() if 'project' in name}
    rules = [dict(path='**', init_cfg=dict(type='Normal', layer='Linear'))]
    small = nn.ModuleList([nn.Linear(64, 64)])
    init_modules(small, rules)  # what is imported at first is not counted
    before = [model[0].project.weight.clone()]
    torch.cuda.is_available()
    start = resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')  # forget the highest
    init_modules(model, rules, loaded=loaded)
    extra = resident('VmHWM') - start
    assert torch.equal(before[0], model[0].project.weight)
    largest = 4096 * 4096 * 4
    count = sum(tensor.numel() for tensor in model.parameters()) / 1e6
    return Row(
        f'memory, {blocks} blocks',
        f'peak of extra memory, rule `**`, {count:,.0f} M parameters, mostly '
        'loaded',
        'bytes of the largest tensor that is kept',
        extra / largest,
        1.2,
        extra / MIB,
        largest / MIB,
        'MiB',
    )


if __name__ == '__main__':
    print(json.dumps(vars(measured(int(sys.argv[1])))))
