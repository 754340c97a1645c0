"""What it costs to bring several processes in line.

On a model of Mask R-CNN R50's size with 10 M new parameters, against one flat
broadcast of the same bytes, and against what MMEngine's Runner does after
``init_weights``: to broadcast the state dict, tensor by tensor.

    make bench
"""

import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
from mmengine.dist import broadcast, get_rank

from mmpartinit.processes.ranks import in_line

NEW = 10_000_000
# Parameters of each kind in mmdet's Mask R-CNN R50: 46 M in 400 tensors.
SIZES = [12_845_056, 2_359_296, 1_048_576, 589_824, 262_144, 65_536, 256]
COUNTS = [1, 2, 4, 11, 18, 44, 320]


def state():
    """The new tensors, and all."""
    torch.manual_seed(0)
    new = [torch.randn(NEW // 26) for _ in range(26)]
    pretrained = [
        torch.randn(size)
        for size, count in zip(SIZES, COUNTS)
        for _ in range(count)
    ]
    return new, [*pretrained, *new]


def seconds(action):
    """How long the slowest rank takes."""
    dist.barrier()
    start = time.perf_counter()
    action()
    spent = torch.tensor(time.perf_counter() - start)
    dist.all_reduce(spent, dist.ReduceOp.MAX)
    return spent.item()


def main(rounds=15):
    """Measure in turns, print medians."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    new, whole = state()
    flat = torch.cat(new)

    names = dict(zip(map(str, range(len(new))), new))
    everything = [[set(names)]]

    def ours():
        assert in_line(None, everything, names) == (everything, [])

    def ours_where_all_differs():
        if get_rank() != 0:
            for tensor in new:
                tensor[0] += 1.0
        assert in_line(None, everything, names) == (
            everything,
            list(names),
        )

    def one_broadcast():
        broadcast(flat)

    def as_runner_does():
        for tensor in whole:
            broadcast(tensor)

    actions = (ours, ours_where_all_differs, one_broadcast, as_runner_does)
    spent = {action: [] for action in actions}
    for number in range(rounds + 2):
        for action in actions:
            taken = seconds(action)
            if number >= 2:  # the first ones warm up
                spent[action].append(taken)
    if get_rank() == 0:
        middle = {a: statistics.median(s) for a, s in spent.items()}
        for action, values in spent.items():
            print(
                f'{action.__name__:22} {1e3 * middle[action]:7.1f} ms '
                f'({1e3 * min(values):.1f} to {1e3 * max(values):.1f})'
            )
        print(
            f'ours / one broadcast of {flat.numel() * 4 / 1e6:.0f} MB: '
            f'{middle[ours] / middle[one_broadcast]:.2f}\n'
            f'as Runner does ({sum(t.numel() for t in whole) / 1e6:.0f} M '
            f'parameters in {len(whole)} tensors) / ours: '
            f'{middle[as_runner_does] / middle[ours]:.1f}'
        )
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may abort an orderly exit


if __name__ == '__main__':
    main()
