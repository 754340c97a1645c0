"""The ways in which initializers of users write to tensors."""

import ctypes

import torch
import torch.nn as nn
from torch.nn.init import normal_


def tensors(module):
    """Parameters and float buffers of one module, not of its children."""
    own = list(module.parameters(recurse=False))
    own += [b for b in module.buffers(recurse=False) if b.is_floating_point()]
    return own


def by_nn_init(module):
    for tensor in tensors(module):
        nn.init.normal_(tensor)


def by_imported_name(module):
    for tensor in tensors(module):
        normal_(tensor, 3.0)


def by_data(module):
    for tensor in tensors(module):
        tensor.data.fill_(7)


def by_view(module):
    for tensor in tensors(module):
        tensor.view(-1)[:1] = 5
        tensor.data.view(-1)[1:].zero_()


def by_rebinding(module):
    for tensor in tensors(module):
        tensor.data = torch.full_like(tensor, 2.0)


def by_numpy(module):
    for tensor in tensors(module):
        tensor.detach().numpy()[...] = 9


def by_raw_copy(module):
    for tensor in tensors(module):
        source = torch.full_like(tensor, 6.0)
        size = tensor.numel() * tensor.element_size()
        ctypes.memmove(tensor.data_ptr(), source.data_ptr(), size)


def by_out_argument(module):
    for tensor in tensors(module):
        torch.mul(tensor.detach(), -1, out=tensor.detach())


def by_foreach(module):
    if tensors(module):
        torch._foreach_add_(tensors(module), 1.5)


STYLES = [
    by_nn_init,
    by_imported_name,
    by_data,
    by_view,
    by_rebinding,
    by_numpy,
    by_raw_copy,
    by_out_argument,
    by_foreach,
]
