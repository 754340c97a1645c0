"""The ``mmpartinit`` command, which answers before PyTorch is imported.

A module of the package cannot do that: the package's ``__init__`` imports
PyTorch and MMEngine, to register what it has.
"""

import sys
from importlib.util import find_spec, module_from_spec
from typing import List, Optional

_PACKAGE = 'mmpartinit'


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command.

    Args:
        arguments (list[str], optional): Words after the command's name.
            Defaults to None, the process's own.

    Returns:
        int: The exit status.
    """
    if _PACKAGE in sys.modules:
        from mmpartinit.command import cli

        return cli.main(arguments)
    spec = find_spec(_PACKAGE)
    assert spec is not None and spec.loader is not None
    # Its parts can be imported from it, and `__init__` has not run.
    package = sys.modules[_PACKAGE] = module_from_spec(spec)
    is_whole = False
    try:
        from mmpartinit.command import cli, words

        options = words.build_parser().parse_args(arguments)
        if options.command not in cli.LIGHT:
            try:
                spec.loader.exec_module(package)
            except ModuleNotFoundError as error:
                print(f'mmpartinit: {error}', file=sys.stderr)
                return 2
            is_whole = True
        return cli.run(options)
    finally:
        if not is_whole:  # nobody is to find it as it is
            del sys.modules[_PACKAGE]
