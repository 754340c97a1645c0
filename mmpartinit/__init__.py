"""mmpartinit: say where every weight of a modified model comes from.

Importing the package registers :class:`CustomModuleInitHook` in MMEngine's
``HOOKS`` and the initializers ``AdaptedPretrained``, ``Apply``, ``Identity``,
``InitWeights``, ``Orthogonal`` and ``ResetParameters`` in its
``WEIGHT_INITIALIZERS``.

From a config to a weight, in the order in which it happens: ``rules`` reads
what the config says, when ``hook`` is built. When training starts, ``hook``
hands rules and model to ``plan``, with what ``model.loading`` has recorded.
That has ``rules.matching`` find which modules a rule means and ``checks`` tell
what cannot be, lets ``writing`` write by MMEngine's and our ``initializers``,
and tells in a ``report`` what was done. ``processes`` keeps ranks in line.
What is wrong or worth seeing is a ``Finding`` (``errors``) everywhere.
"""

try:
    import mmengine  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != 'mmengine':
        raise
    raise ModuleNotFoundError(
        'mmpartinit is a plugin for MMEngine, and no MMEngine is installed: '
        "pip install 'mmpartinit[openmmlab]' brings mmengine, "
        "pip install 'mmpartinit[onedl]' brings onedl-mmengine (take one).",
        name='mmengine',
    ) from None

from .errors import RuleError
from .functions import init_modules, plan_init
from .hook import CustomModuleInitHook
from .initializers.adapted import AdaptedPretrained
from .initializers.layers import (
    Apply,
    Identity,
    InitWeights,
    Orthogonal,
    ResetParameters,
)
from .model.loading import record_loads
from .plan import InitPlan
from .report.report import InitReport
from .seeding import module_seed
from .version import __version__

__all__ = [
    'AdaptedPretrained',
    'Apply',
    'CustomModuleInitHook',
    'Identity',
    'InitPlan',
    'InitReport',
    'InitWeights',
    'Orthogonal',
    'ResetParameters',
    'RuleError',
    '__version__',
    'init_modules',
    'module_seed',
    'plan_init',
    'record_loads',
]
