"""``make compat``: the tests on other stacks, each in its own environment.

Not in CI: the older PyTorch come with CUDA, several gigabytes each. Sessions
whose Python is not there are reported as skipped.
"""

import nox

nox.needs_version = '>=2024.4.15'
# Python's own: virtualenv has no support for the oldest of these Pythons.
nox.options.default_venv_backend = 'venv'
nox.options.reuse_existing_virtualenvs = True

CORE = ' and '.join(
    f'not needs_{name}'
    for name in ('mmdet', 'deepspeed', 'mmpretrain', 'mmseg')
)
# mmengine imports pkg_resources; what an old Python brings cannot build us.
TOOLS = ('setuptools>=61,<81', 'wheel')


@nox.session
@nox.parametrize(
    'python, torch, mmengine',
    [
        ('3.8', '1.13.1', 'mmengine==0.8.0'),
        ('3.9', '2.1.2', 'mmengine==0.9.1'),
        ('3.10', '2.1.2', 'mmengine==0.10.0'),
        ('3.11', '2.13.0', 'onedl-mmengine==0.10.12'),
        ('3.12', '2.13.0', 'mmengine==0.10.7'),
        ('3.13', '2.13.0', 'onedl-mmengine==0.10.12'),
    ],
)
def core(session, torch, mmengine):
    """The tests that need MMEngine and no other OpenMMLab package."""
    # What these versions were made for; newer ones break them.
    older = ['numpy<2', 'opencv-python<4.12', 'yapf<0.40.2']
    older = older if torch.startswith(('1.', '2.1.')) else []
    extra = 'onedl' if mmengine.startswith('onedl') else 'openmmlab'
    session.install(*TOOLS)
    session.install(f'torch=={torch}', mmengine, *older)
    session.install('-e', f'.[{extra},demo,test]', *older)
    # FSDP of PyTorch 2.1 stops without CUDA.
    alone = ['--ignore', 'tests/processes/test_processes.py'] if older else []
    session.run('python', '-m', 'pytest', '-m', CORE, *alone, *session.posargs)


@nox.session(python='3.10')
def mmpretrain(session):
    """Real backbones of mmpretrain's, with mmcv-lite."""
    session.install(*TOOLS)
    # It imports torchvision, which is compiled for one PyTorch each.
    session.install(
        *('torch==2.1.2', 'torchvision==0.16.2', 'numpy<2'),
        *('mmengine==0.10.0', 'mmcv-lite==2.1.0', 'mmpretrain==1.2.0'),
        *('yapf<0.40.2', 'opencv-python<4.12'),
    )
    session.install('-e', '.[demo,test]')
    session.run(
        *('python', '-m', 'pytest', '-m', 'needs_mmpretrain'),
        *('tests/zoo/test_openmmlab_backbones.py', *session.posargs),
    )


@nox.session(python='3.11')
def mmseg(session):
    """Real backbones of mmsegmentation's, with the mmcv of `make test`."""
    install = ('-c', 'constraints.txt', '--no-build-isolation')
    session.install(*install, *TOOLS)
    session.install(*install, '-e', '.[openmmlab,demo,test]', 'ninja')
    session.install(*install, 'psutil')
    session.install(*install, 'mmcv', 'mmsegmentation==1.2.2')
    session.install('ftfy', 'regex')  # imported, and not asked for
    session.run(
        *('python', '-m', 'pytest', '-m', 'needs_mmseg'),
        *('tests/zoo/test_openmmlab_backbones.py', *session.posargs),
    )
