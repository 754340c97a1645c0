"""``make compat``: the tests on other stacks, each in its own environment.

Not in CI: the older PyTorch come with CUDA, several gigabytes each. Sessions
whose Python is not there are reported as skipped.
"""

import nox

nox.needs_version = '>=2024.4.15'
# Python's own: virtualenv has no support for the oldest of these Pythons.
nox.options.default_venv_backend = 'venv'
nox.options.reuse_existing_virtualenvs = True

CORE = 'not needs_mmdet and not needs_deepspeed and not needs_mmpretrain'
TOOLS = ('setuptools<81', 'wheel')  # mmengine imports pkg_resources


@nox.session
@nox.parametrize(
    'python, torch, mmengine',
    [
        ('3.8', '1.13.1', 'mmengine==0.8.0'),
        ('3.9', '2.1.2', 'mmengine==0.9.1'),
        ('3.10', '2.1.2', 'mmengine==0.10.0'),
        ('3.12', '2.13.0', 'mmengine==0.10.7'),
        ('3.13', '2.13.0', 'onedl-mmengine==0.10.12'),
    ],
)
def core(session, torch, mmengine):
    """The tests that need MMEngine and no other OpenMMLab package."""
    numpy = ['numpy<2'] if torch.startswith(('1.', '2.1.')) else []
    extra = 'onedl' if mmengine.startswith('onedl') else 'openmmlab'
    session.install(*TOOLS)
    session.install(f'torch=={torch}', mmengine, *numpy)
    session.install('-e', f'.[{extra},demo,test]', *numpy)
    session.run('python', '-m', 'pytest', '-m', CORE, *session.posargs)


@nox.session(python='3.11')
def openmmlab(session):
    """Real backbones of mmpretrain's and mmsegmentation's."""
    session.install('-c', 'constraints.txt', *TOOLS)
    session.install(
        *('-c', 'constraints.txt', '--no-build-isolation'),
        *('-e', '.[openmmlab,demo,test]'),
        *('mmcv-lite==2.1.0', 'mmpretrain==1.2.0', 'mmsegmentation==1.2.2'),
        'ftfy',  # which mmsegmentation imports without asking for it
    )
    session.run(
        'python', '-m', 'pytest', '-m', 'needs_mmpretrain', *session.posargs
    )
