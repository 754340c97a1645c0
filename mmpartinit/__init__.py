"""mmpartinit: say where every weight of a modified model comes from.

Importing the package registers :class:`CustomModuleInitHook` in MMEngine's
``HOOKS`` and the initializers ``AdaptedPretrained``, ``Apply``, ``Identity``,
``InitWeights``, ``Orthogonal`` and ``ResetParameters`` in its
``WEIGHT_INITIALIZERS``.
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

from .adapted import AdaptedPretrained
from .hook import CustomModuleInitHook
from .initializers import (
    Apply,
    Identity,
    InitWeights,
    Orthogonal,
    ResetParameters,
)
from .loading import record_loads
from .plan import InitPlan, init_modules, plan_init
from .report import InitReport
from .rules import RuleError
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
