"""What importing the package costs."""

import subprocess
import sys

from timing import in_turns


def rows():
    """Against what every run imports anyway."""

    def run(code):
        subprocess.run([sys.executable, '-c', code], check=True)

    yield in_turns(
        'import',
        'import mmpartinit',
        'import mmengine.runner',
        1.1,
        lambda: run('import mmpartinit'),
        lambda: run('import mmengine.runner'),
        turns=9,
    )
