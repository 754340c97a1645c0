"""Ways that put a file's tensors into a model as they are."""

import numpy as np
import torch
import torch.nn as nn
from mmengine.model import ModuleDict, PretrainedInit, initialize
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import (
    _load_checkpoint_with_prefix,
    load_state_dict,
)
from torch.nn.utils import vector_to_parameters
from ways import Net, loader, read, way

ALWAYS = ('constructor', 'init_weights', 'after')
BUILDING = ALWAYS[:2]


# --- a state dict, as a whole


@loader(*ALWAYS, says='file')
def whole_by_torch(net, path):
    net.load_state_dict(read(path))


@loader(*BUILDING, says='file', since='2.1')
def whole_by_assigning(net, path):
    net.load_state_dict(read(path), assign=True)


@loader(*ALWAYS, says='file')
def whole_by_mmengine(net, path):
    load_checkpoint(net, f'{path}/checkpoint.pth', logger='silent')


@loader('init_weights', says='file')
def dict_by_mmengine(net, path):
    load_state_dict(net, read(path), logger='silent')


@loader('constructor', says='file')
def with_other_keys(net, path):
    file, keys = f'{path}/prefixed.pth', [(r'^backbone\.', '')]
    load_checkpoint(net, file, revise_keys=keys, logger='silent')


@loader('init_weights', says='file')
def part_of_a_file_with_its_prefix(net, path):
    file = f'{path}/prefixed.pth'
    net.load_state_dict(_load_checkpoint_with_prefix('backbone.', file))


@way('file')
def pretrained(path):
    return Net(dict(type='Pretrained', checkpoint=f'{path}/state.pth'))


@way('file')
def pretrained_with_prefix(path):
    file = f'{path}/prefixed.pth'
    return Net(dict(type='Pretrained', checkpoint=file, prefix='backbone.'))


@way('file')
def pretrained_by_override(path):
    file = f'{path}/state.pth'
    own = dict(type='Pretrained', name='body', checkpoint=file, prefix='body.')
    return Net(dict(type='Xavier', layer='Linear', override=own))


@way('file')
def pretrained_children(path):
    net, file = Net(), f'{path}/state.pth'
    PretrainedInit(file, prefix='stem.')(net.stem)
    cfg = dict(type='Pretrained', checkpoint=file, prefix='head.')
    initialize(net.head, cfg)
    return net


@way('file')
def pretrained_parts_of_a_dict(path):
    file = f'{path}/state.pth'
    cfg = dict(type='Pretrained', checkpoint=file)
    return ModuleDict({'two': Net(cfg), 'one': Net()})


@loader('constructor', says='file')
def all_but_the_head(net, path):
    state = {k: v for k, v in read(path).items() if 'head' not in k}
    net.load_state_dict(state, strict=False)


class Renaming(Net):
    """Takes a layer under its old name."""

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for key in [k for k in state_dict if k.startswith(f'{prefix}fc.')]:
            state_dict[key.replace('fc.', 'body.')] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


@loader('constructor', says='file', net=Renaming)
def renamed_by_the_model(net, path):
    net.load_state_dict(read(path, 'old'))


@loader('init_weights', says='file')
def renamed_by_a_hook(net, path):
    def rename(state, prefix, *args):
        for key in [k for k in state if k.startswith(f'{prefix}fc.')]:
            state[key.replace('fc.', 'body.')] = state.pop(key)

    net._register_load_state_dict_pre_hook(rename)
    load_state_dict(net, read(path, 'old'), logger='silent')


@way('file', since='2.1')
def built_without_memory(path):
    with torch.device('meta'):
        net = Net()
    net.load_state_dict(read(path), assign=True)
    return net


@way('file', since='2.1')
def mapped_from_the_file(path):
    net = Net()
    state = torch.load(f'{path}/state.pth', mmap=True)
    net.load_state_dict(state, assign=True)
    return net


@way('file')
def in_a_wrapper(path):
    net = Net()
    state = {f'module.{k}': v for k, v in read(path).items()}
    nn.DataParallel(net).load_state_dict(state)
    return net


# --- a state dict's tensors, one by one


@loader(*BUILDING)
def copied_into_data(net, path):
    state = read(path)
    for name, tensor in net.state_dict(keep_vars=True).items():
        tensor.data.copy_(state[name])


@loader('init_weights')
def copied_without_gradients(net, path):
    state = read(path)
    with torch.no_grad():
        net.body.weight.copy_(state['body.weight'])
        net.body.bias[:] = state['body.bias']


@loader(*BUILDING)
def data_replaced(net, path):
    state = read(path)
    for name, parameter in net.named_parameters():
        parameter.data = state[name]


@loader('constructor')
def parameters_replaced(net, path):
    state = read(path)
    for name in ('body', 'head'):
        layer = getattr(net, name)
        layer.weight = nn.Parameter(state[f'{name}.weight'])
        setattr(layer, 'bias', nn.Parameter(state[f'{name}.bias']))  # noqa: B010


@loader('init_weights')
def tensor_by_tensor(net, path):
    state = read(path)
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    for name in named:
        if name in state and 'head' not in name:
            named[name].detach().copy_(state[name])


@loader(*BUILDING)
def arrays(net, path):
    with np.load(f'{path}/arrays.npz') as file:
        for name, parameter in net.named_parameters():
            parameter.data.copy_(torch.from_numpy(file[name]))


@loader('constructor')
def written_by_numpy(net, path):
    with np.load(f'{path}/arrays.npz') as file:
        net.body.weight.detach().numpy()[...] = file['body.weight']


@loader('constructor', needs='safetensors')
def from_safetensors(net, path):
    from safetensors import safe_open

    with safe_open(f'{path}/state.safetensors', 'pt') as file:
        for name, parameter in net.named_parameters():
            parameter.data.copy_(file.get_tensor(name))


@loader(*BUILDING, since='2.3')
def distributed_checkpoint(net, path):
    import torch.distributed.checkpoint as dcp

    dcp.load(net.state_dict(), checkpoint_id=f'{path}/dcp', no_dist=True)


@loader('constructor')
def one_vector(net, path):
    state = read(path)
    flat = [state[name].flatten() for name, _ in net.named_parameters()]
    vector_to_parameters(torch.cat(flat), net.parameters())


@loader('constructor', since='2.3')
def swapped_in(net, path):
    state = read(path)
    for name in ('weight', 'bias'):
        new = nn.Parameter(state[f'body.{name}'])
        torch.utils.swap_tensors(getattr(net.body, name), new)
