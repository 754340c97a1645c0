"""What the lists of a config replace of those of its base files."""

import ast
import os.path as osp
import tempfile
from importlib.util import find_spec
from typing import Any, List, Tuple

from mmengine.config import Config

from ..errors import Finding
from .hooks import imports_of, listed


def replaced(cfg: Config) -> List[Finding]:
    """What the lists of a config replace of those of its base files."""
    base = _base(cfg)
    if base is None:
        return []
    findings = []
    types = [str(_type(hook)) for hook in listed(cfg)]
    lost = [h for h in listed(base) if str(_type(h)) not in types]
    if lost and 'custom_hooks' in cfg:
        names = ', '.join(str(_type(hook)) for hook in lost)
        keep = ', '.join(_as_code(hook) for hook in lost)
        text = (
            '`custom_hooks` replaces the list of the base config, so that '
            f'{names} will not run; to keep them: custom_hooks = [{keep}, ...]'
        )
        findings.append(Finding('warning', 'replaced-hooks', text))
    gone = [name for name in imports_of(base) if name not in imports_of(cfg)]
    if gone:
        imports = [*gone, *imports_of(cfg)]
        text = (
            f'`custom_imports` replaces that of the base config, and '
            f'{", ".join(gone)} will not be imported; to keep them: '
            f'custom_imports = dict(imports={imports!r})'
        )
        findings.append(Finding('warning', 'replaced-imports', text))
    return findings


def _type(hook: Any) -> Any:
    kind = hook.get('type') if isinstance(hook, dict) else type(hook)
    return getattr(kind, '__name__', kind)


def _as_code(hook: Any) -> str:
    if not isinstance(hook, dict):
        return repr(hook)
    values = dict(hook.items(), type=_type(hook))
    return f'dict({", ".join(f"{k}={v!r}" for k, v in values.items())})'


def _base(cfg: Config) -> Any:
    """The base files of a config's own file, merged; None where there are
    none, or none that can be told.
    """
    names, folder = _base_names(cfg.filename)
    if not names:
        return None
    paths = [_place(name, folder) for name in names]
    with tempfile.TemporaryDirectory() as temporary:
        file = osp.join(temporary, 'base.py')
        with open(file, 'w', encoding='utf-8') as opened:
            opened.write(f'_base_ = {paths!r}\n')
        return Config.fromfile(file, import_custom_modules=False)


def _place(name: str, folder: str) -> str:
    """Where a base file is. MMEngine finds those of packages too, but reads
    all their metafiles for it, which takes longer than all the rest.
    """
    package, _, path = name.partition('::')
    if not path:
        return osp.join(folder, name)
    spec = find_spec(package)
    root = osp.dirname((spec and spec.origin) or '')
    place = osp.join(root, '.mim', 'configs', path)
    return place if osp.isfile(place) else name


def _base_names(file: Any) -> Tuple[List[str], str]:
    if not file or not file.endswith('.py') or not osp.isfile(file):
        return [], ''
    with open(file, encoding='utf-8') as opened:
        tree = ast.parse(opened.read())
    for node in tree.body:
        if isinstance(node, ast.Assign) and [
            getattr(target, 'id', '') for target in node.targets
        ] == ['_base_']:
            try:
                names = ast.literal_eval(node.value)
            except ValueError:
                return [], ''  # computed
            folder = osp.dirname(osp.abspath(file))
            return [names] if isinstance(names, str) else names, folder
    return [], ''
