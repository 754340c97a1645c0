"""How libraries outside of OpenMMLab load weights."""

from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from loading import drawn, loads

# transformers

BERT = dict(
    vocab_size=11,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=9,
)


def bert(kind: str = 'BertModel', **more: Any) -> nn.Module:
    import transformers

    config = transformers.BertConfig(**BERT, **more)
    return getattr(transformers, kind)(config)


def save_bert(folder: Path) -> None:
    drawn(bert()).save_pretrained(folder)


def save_bert_as_pth(folder: Path) -> None:
    model = drawn(bert())
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / 'pytorch_model.bin')


def save_masked_bert(folder: Path) -> None:
    drawn(bert('BertForMaskedLM')).save_pretrained(folder)


@loads('transformers', '`BertModel.from_pretrained`', save_bert)
def bert_whole(path: str) -> nn.Module:
    from transformers import BertModel

    return BertModel.from_pretrained(path)


@loads('transformers', 'the same from `pytorch_model.bin`', save_bert_as_pth)
def bert_from_bin(path: str) -> nn.Module:
    from transformers import BertModel

    return BertModel.from_pretrained(path)


@loads('transformers', '`AutoModel.from_pretrained`', save_bert)
def bert_by_auto(path: str) -> nn.Module:
    from transformers import AutoModel

    return AutoModel.from_pretrained(path)


@loads(
    'transformers',
    '`BertForSequenceClassification.from_pretrained`, a head that the file '
    'lacks',
    save_bert,
)
def bert_with_new_head(path: str) -> nn.Module:
    from transformers import BertForSequenceClassification

    return BertForSequenceClassification.from_pretrained(path)


@loads(
    'transformers',
    '`BertForMaskedLM.from_pretrained`, input and output tied',
    save_masked_bert,
)
def bert_tied(path: str) -> nn.Module:
    from transformers import BertForMaskedLM

    return BertForMaskedLM.from_pretrained(path)


@loads(
    'transformers',
    'the same, more words in the model than in the file '
    '(`resize_token_embeddings`)',
    save_masked_bert,
)
def bert_with_more_words(path: str) -> nn.Module:
    model = bert_tied(path)
    model.resize_token_embeddings(14, mean_resizing=False)
    return model


def vit(**more: Any) -> nn.Module:
    import transformers

    sizes = {k: v for k, v in BERT.items() if 'size' not in k}
    sizes.pop('max_position_embeddings')
    config = transformers.ViTConfig(
        hidden_size=8,
        intermediate_size=12,
        image_size=8,
        patch_size=4,
        **sizes,
        **more,
    )
    return transformers.ViTForImageClassification(config)


@loads(
    'transformers',
    '`ViTForImageClassification.from_pretrained`, another number of classes '
    '(`ignore_mismatched_sizes`)',
    lambda folder: drawn(vit(num_labels=3)).save_pretrained(folder),
)
def vit_of_other_classes(path: str) -> nn.Module:
    from transformers import ViTForImageClassification

    return ViTForImageClassification.from_pretrained(
        path, num_labels=5, ignore_mismatched_sizes=True
    )


# timm

VIT = 'vit_tiny_patch16_224'
SMALL = dict(img_size=32, depth=2, num_classes=5)


def timm_model(**more: Any) -> nn.Module:
    import timm

    return timm.create_model(VIT, **{**SMALL, **more})


def save_timm_pth(folder: Path) -> None:
    torch.save(drawn(timm_model()).state_dict(), folder / 'vit.pth')


def save_timm_safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    state = drawn(timm_model()).state_dict()
    save_file(state, str(folder / 'vit.safetensors'))


def save_timm_npz(folder: Path) -> None:
    """As the Vision Transformers of Google's are stored."""
    import numpy as np

    state = drawn(timm_model()).state_dict()
    width, heads = state['cls_token'].shape[-1], 3
    arrays = {
        'cls': state['cls_token'],
        'Transformer/posembed_input/pos_embedding': state['pos_embed'],
        'embedding/kernel': state['patch_embed.proj.weight'].permute(
            2, 3, 1, 0
        ),
        'embedding/bias': state['patch_embed.proj.bias'],
        'Transformer/encoder_norm/scale': state['norm.weight'],
        'Transformer/encoder_norm/bias': state['norm.bias'],
        'head/kernel': state['head.weight'].t(),
        'head/bias': state['head.bias'],
    }
    for i in range(SMALL['depth']):
        of, to = f'blocks.{i}.', f'Transformer/encoderblock_{i}/'
        attention = f'{to}MultiHeadDotProductAttention_1/'
        weights = state[f'{of}attn.qkv.weight'].chunk(3)
        biases = state[f'{of}attn.qkv.bias'].chunk(3)
        for name, w, b in zip(('query', 'key', 'value'), weights, biases):
            shape = (width, heads, width // heads)
            arrays[f'{attention}{name}/kernel'] = w.t().reshape(shape)
            arrays[f'{attention}{name}/bias'] = b.reshape(shape[1:])
        out = state[f'{of}attn.proj.weight'].t()
        arrays[f'{attention}out/kernel'] = out.reshape(heads, -1, width)
        arrays[f'{attention}out/bias'] = state[f'{of}attn.proj.bias']
        for j in (1, 2):
            dense = f'{to}MlpBlock_3/Dense_{j - 1}/'
            arrays[f'{dense}kernel'] = state[f'{of}mlp.fc{j}.weight'].t()
            arrays[f'{dense}bias'] = state[f'{of}mlp.fc{j}.bias']
            norm = f'{to}LayerNorm_{2 * (j - 1)}/'
            arrays[f'{norm}scale'] = state[f'{of}norm{j}.weight']
            arrays[f'{norm}bias'] = state[f'{of}norm{j}.bias']
    np.savez(folder / 'vit.npz', **{k: v.numpy() for k, v in arrays.items()})


@loads(
    'timm', f"`create_model('{VIT}', checkpoint_path='….pth')`", save_timm_pth
)
def timm_pth(path: str) -> nn.Module:
    return timm_model(checkpoint_path=f'{path}/vit.pth')


@loads('timm', 'the same from `.safetensors`', save_timm_safetensors)
def timm_safetensors(path: str) -> nn.Module:
    return timm_model(checkpoint_path=f'{path}/vit.safetensors')


@loads('timm', 'the same from `.npz`', save_timm_npz)
def timm_npz(path: str) -> nn.Module:
    return timm_model(checkpoint_path=f'{path}/vit.npz')


@loads(
    'timm',
    'the same with `pretrained_cfg_overlay=dict(file=...)`, `in_chans=4` and '
    '`num_classes=7`',
    save_timm_pth,
)
def timm_other_channels(path: str) -> nn.Module:
    return timm_model(
        pretrained=True,
        pretrained_cfg_overlay=dict(file=f'{path}/vit.pth', num_classes=5),
        in_chans=4,
        num_classes=7,
    )


@loads(
    'timm',
    'the same with another `img_size`: the position embedding resampled',
    save_timm_pth,
)
def timm_other_size(path: str) -> nn.Module:
    return timm_model(
        pretrained=True,
        pretrained_cfg_overlay=dict(file=f'{path}/vit.pth', num_classes=5),
        img_size=48,
    )


@loads(
    'timm', '`load_checkpoint(..., strict=False)` into features', save_timm_pth
)
def timm_features(path: str) -> nn.Module:
    from timm.models import load_checkpoint

    model = timm_model(num_classes=0)
    load_checkpoint(model, f'{path}/vit.pth', strict=False)
    return model


# peft, on a BERT that is loaded


def with_adapter(path: str, kind: str = 'BertModel', **more: Any) -> nn.Module:
    import transformers
    from peft import LoraConfig, get_peft_model

    model = getattr(transformers, kind).from_pretrained(path)
    targets = ['query', 'value']
    config = LoraConfig(r=2, target_modules=targets, **more)
    return get_peft_model(model, config)


@loads('peft', 'LoRA (`get_peft_model`) on a loaded BERT', save_bert)
def lora(path: str) -> nn.Module:
    return with_adapter(path)


@loads('peft', 'DoRA, whose magnitudes are norms of loaded weights', save_bert)
def dora(path: str) -> nn.Module:
    return with_adapter(path, use_dora=True)


@loads('peft', 'PiSSA, whose adapters are an SVD of loaded weights', save_bert)
def pissa(path: str) -> nn.Module:
    return with_adapter(path, init_lora_weights='pissa')


@loads('peft', 'OLoRA, a QR of loaded weights', save_bert)
def olora(path: str) -> nn.Module:
    return with_adapter(path, init_lora_weights='olora')


@loads(
    'peft',
    'LoRA with `modules_to_save`, a copy of a new head',
    save_bert,
)
def lora_with_new_head(path: str) -> nn.Module:
    kind = 'BertForSequenceClassification'
    return with_adapter(path, kind, modules_to_save=['classifier'])


@loads(
    'peft',
    'LoRA with `modules_to_save`, a copy of a loaded pooler',
    save_bert,
)
def lora_with_loaded_copy(path: str) -> nn.Module:
    return with_adapter(path, modules_to_save=['pooler'])


def save_adapter(folder: Path) -> None:
    save_bert(folder)
    drawn(lora(str(folder))).save_pretrained(folder / 'adapter')
    save_bert(folder)


@loads('peft', '`PeftModel.from_pretrained`, a saved adapter', save_adapter)
def lora_from_a_file(path: str) -> nn.Module:
    from peft import PeftModel
    from transformers import BertModel

    model = BertModel.from_pretrained(path)
    return PeftModel.from_pretrained(model, f'{path}/adapter')


@loads('peft', 'a saved adapter, merged (`merge_and_unload`)', save_adapter)
def lora_merged(path: str) -> nn.Module:
    return lora_from_a_file(path).merge_and_unload()


# diffusers


def unet(**more: Any) -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(4, 8),
        norm_num_groups=2,
        attention_head_dim=4,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
        **more,
    )


@loads(
    'diffusers',
    '`UNet2DModel.from_pretrained`',
    lambda folder: drawn(unet()).save_pretrained(folder),
)
def unet_whole(path: str) -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel.from_pretrained(path)


@loads(
    'diffusers',
    '`ControlNetModel.from_unet`, a copy of half of a loaded UNet',
    lambda folder: drawn(conditioned()).save_pretrained(folder),
)
def control(path: str) -> nn.Module:
    from diffusers import ControlNetModel, UNet2DConditionModel

    return ControlNetModel.from_unet(
        UNet2DConditionModel.from_pretrained(path), conditioning_channels=3
    )


def conditioned() -> nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(4, 8),
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=8,
        down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
    )


# accelerate


class Plain(nn.Sequential):
    """A model of torch's layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 9, 3), nn.BatchNorm2d(9), nn.Linear(9, 40)
        )


def save_plain(folder: Path) -> None:
    torch.save(drawn(Plain()).state_dict(), folder / 'model.pth')


def save_in_parts(folder: Path) -> None:
    from accelerate import Accelerator

    Accelerator(cpu=True).save_model(
        drawn(Plain()), str(folder), max_shard_size='1KB'
    )


@loads('accelerate', '`load_checkpoint_in_model`, a file', save_plain)
def into_model(path: str) -> nn.Module:
    from accelerate import load_checkpoint_in_model

    model = Plain()
    load_checkpoint_in_model(model, f'{path}/model.pth')
    return model


@loads('accelerate', 'the same, a folder of shards', save_in_parts)
def of_shards(path: str) -> nn.Module:
    from accelerate import load_checkpoint_in_model

    model = Plain()
    load_checkpoint_in_model(model, path)
    return model


@loads(
    'accelerate',
    '`init_empty_weights` and `load_checkpoint_and_dispatch`',
    save_plain,
)
def dispatched(path: str) -> nn.Module:
    from accelerate import init_empty_weights, load_checkpoint_and_dispatch

    with init_empty_weights():
        model = Plain()
    return load_checkpoint_and_dispatch(
        model, f'{path}/model.pth', device_map={'': 'cpu'}
    )


# open_clip

TEXT = dict(context_length=7, vocab_size=11, width=8, heads=2, layers=1)


def clip(size: int = 8) -> nn.Module:
    import open_clip

    seen = dict(layers=1, width=64, patch_size=4, image_size=size)
    return open_clip.CLIP(embed_dim=8, vision_cfg=seen, text_cfg=TEXT)


def save_clip(folder: Path) -> None:
    torch.save(drawn(clip()).state_dict(), folder / 'clip.pt')


@loads('open_clip', '`load_checkpoint` into a CLIP', save_clip)
def clip_whole(path: str) -> nn.Module:
    from open_clip import load_checkpoint

    model = clip()
    load_checkpoint(model, f'{path}/clip.pt')
    return model


@loads('open_clip', 'its image tower taken out of it', save_clip)
def clip_visual(path: str) -> nn.Module:
    return clip_whole(path).visual


@loads(
    'open_clip',
    'the same at another image size, its position embedding resized',
    save_clip,
)
def clip_resized(path: str) -> nn.Module:
    from open_clip import load_checkpoint

    model = clip(size=12)
    load_checkpoint(model, f'{path}/clip.pt')
    return model
