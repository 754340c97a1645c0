"""What a way of loading is, and those that the files beside this one hold."""

from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple

import torch
import torch.nn as nn
from ways import KEPT, WAYS, Made


class Loader(NamedTuple):
    """A way of loading.

    Attributes:
        package (str): By the name that it is imported by.
        what (str): How it is called.
        save (Callable): Writes the files of a folder, of drawn values.
    """

    package: str
    what: str
    save: Callable[[Path], Any]


LOADERS: Dict[str, Loader] = {}


def loads(package: str, what: str, save: Callable[[Path], Any]):
    """A function that makes a module from a folder, as one of the ways."""

    def add(build: Callable[[str], nn.Module]) -> Callable[[str], nn.Module]:
        def apart(path: str) -> nn.Module:
            # Others call it `init_weights` as well, and MMEngine would have
            # them initialise once more what they have loaded.
            return nn.ModuleList([build(path)])

        is_ours = package.startswith('mm')
        WAYS[build.__name__] = Made(build if is_ours else apart, says=KEPT)
        LOADERS[build.__name__] = Loader(package, what, save)
        return build

    return add


def drawn(module: nn.Module) -> nn.Module:
    """Gives each element of a module another value; two files that are made
    from two seeds have nothing in common.
    """
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        else:
            tensor.random_(1, 1000)
    return module
