"""How packages of OpenMMLab load weights, where they change what they load."""

from pathlib import Path
from typing import Any, Callable

import torch
import torch.nn as nn
from loading import drawn, loads
from mmengine.config import ConfigDict

# mmaction2, from ResNets as torchvision has them


def save_resnet(depth: int) -> Callable[[Path], Any]:
    def save(folder: Path) -> None:
        import torchvision

        net = getattr(torchvision.models, f'resnet{depth}')()
        torch.save(drawn(net).state_dict(), folder / 'resnet.pth')

    return save


def mmaction_model(path: str, kind: str, depth: int, **more: Any) -> nn.Module:
    from mmaction.registry import MODELS

    file = f'{path}/resnet.pth'
    return MODELS.build(dict(type=kind, depth=depth, pretrained=file, **more))


@loads('mmaction', '`ResNet`', save_resnet(18))
def mmaction_resnet(path: str) -> nn.Module:
    return mmaction_model(path, 'mmaction.ResNet', 18)


@loads('mmaction', '`C2D`', save_resnet(50))
def mmaction_c2d(path: str) -> nn.Module:
    return mmaction_model(path, 'mmaction.C2D', 50)


@loads('mmaction', '`ResNet3d` (I3D), inflated', save_resnet(50))
def mmaction_i3d(path: str) -> nn.Module:
    inflate = ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0))
    return mmaction_model(path, 'mmaction.ResNet3d', 50, inflate=inflate)


@loads('mmaction', '`ResNet3dSlowOnly`, inflated', save_resnet(50))
def mmaction_slow_only(path: str) -> nn.Module:
    return mmaction_model(path, 'mmaction.ResNet3dSlowOnly', 50, lateral=False)


@loads('mmaction', '`ResNetTSM`', save_resnet(18))
def mmaction_tsm(path: str) -> nn.Module:
    return mmaction_model(path, 'mmaction.ResNetTSM', 18)


@loads(
    'mmaction',
    '`TANet`, new modules between loaded ones',
    save_resnet(50),
)
def mmaction_tanet(path: str) -> nn.Module:
    return mmaction_model(path, 'mmaction.TANet', 50, num_segments=4)


# mmdet, mmpretrain and mmseg

SWIN = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
SWIN.update(window_size=2, pretrain_img_size=32)


def save_swin(folder: Path) -> None:
    """As Microsoft's Swin Transformers are stored."""
    from mmdet.models import SwinTransformer

    names = {
        'stages.': 'layers.',
        'attn.w_msa.': 'attn.',
        'ffn.layers.0.0.': 'mlp.fc1.',
        'ffn.layers.1.': 'mlp.fc2.',
        'patch_embed.projection.': 'patch_embed.proj.',
    }
    state = {}
    for name, tensor in drawn(SwinTransformer(**SWIN)).state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = tensor
    torch.save(dict(model=state), folder / 'swin.pth')


@loads(
    'mmdet',
    '`SwinTransformer(convert_weights=True)`, channels in another order',
    save_swin,
)
def mmdet_swin(path: str) -> nn.Module:
    from mmdet.models import SwinTransformer

    cfg = ConfigDict(type='Pretrained', checkpoint=f'{path}/swin.pth')
    return SwinTransformer(**SWIN, convert_weights=True, init_cfg=cfg)


def save_mmpretrain_vit(folder: Path) -> None:
    torch.save(drawn(mmpretrain_model(8)).state_dict(), folder / 'vit.pth')


def mmpretrain_model(size: int, init_cfg: Any = None) -> nn.Module:
    from mmpretrain.models import VisionTransformer

    arch = dict(
        embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8
    )
    return VisionTransformer(
        arch, img_size=size, patch_size=4, init_cfg=init_cfg or []
    )


@loads(
    'mmpretrain',
    '`VisionTransformer` at another image size, its position embedding '
    'resized',
    save_mmpretrain_vit,
)
def mmpretrain_vit(path: str) -> nn.Module:
    cfg = dict(type='Pretrained', checkpoint=f'{path}/vit.pth')
    return mmpretrain_model(16, cfg)


def mmseg_model(size: int, init_cfg: Any = None) -> nn.Module:
    from mmseg.models import VisionTransformer

    return VisionTransformer(
        img_size=size,
        patch_size=4,
        embed_dims=8,
        num_layers=1,
        num_heads=2,
        init_cfg=init_cfg,
    )


@loads(
    'mmseg',
    '`VisionTransformer` at another image size, its position embedding '
    'resized',
    lambda folder: torch.save(
        drawn(mmseg_model(8)).state_dict(), folder / 'vit.pth'
    ),
)
def mmseg_vit(path: str) -> nn.Module:
    cfg = dict(type='Pretrained', checkpoint=f'{path}/vit.pth')
    return mmseg_model(16, cfg)
