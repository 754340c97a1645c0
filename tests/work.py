"""Work done, counted: unlike time, the same on a machine that is busy."""

import sys

from torch.utils._python_dispatch import TorchDispatchMode


class Work(TorchDispatchMode):
    """Counts what happens while it is entered.

    Attributes:
        calls (int): Of functions, those written in C included.
        operators (int): Of torch's, run on tensors.
    """

    def __init__(self):
        super().__init__()
        self.calls = self.operators = 0

    def _count(self, frame, event, arg):
        self.calls += event in ('call', 'c_call')

    def __enter__(self):
        self._before = sys.getprofile()
        super().__enter__()
        sys.setprofile(self._count)
        return self

    def __exit__(self, *error):
        sys.setprofile(self._before)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators += 1
        return func(*args, **(kwargs or {}))
