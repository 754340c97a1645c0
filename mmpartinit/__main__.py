"""``python -m mmpartinit``: the same as the ``mmpartinit`` command."""

import sys

from .command.cli import main

sys.exit(main())
