"""``Pretrained`` for a model whose names and shapes differ from the file's."""

from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Union

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, is_model_wrapper, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS

from .around import around
from .classes import both_names, checked_classes
from .names import Pairs, checked_pairs, renamed
from .rows import WAY_OUT, ClassRows, obstacle
from .shapes import CHANNELS, INFLATE, Channels, differ, fitted, is_list


@WEIGHT_INITIALIZERS.register_module()
class AdaptedPretrained(PretrainedInit):
    """Load a checkpoint as ``Pretrained`` does, under other names where the
    model's are others, and adapt weights that differ from the model's in
    their input channels or in a dimension only.

    With other input channels, that is the ``weight`` of ``nn.Conv1d``,
    ``nn.Conv2d`` and ``nn.Conv3d`` (and of what inherits from them), of shape
    (out, in / groups, ...), and with a list also that of ``nn.Linear``, of
    shape (out, in). A tensor whose shape differs otherwise is an error; names
    that are missing or unexpected are logged, as ``Pretrained`` does.

    Channels are counted within a group: each group is adapted like a
    convolution of its own, so that the new channels come at the end of each.
    A checkpoint does not say how many groups a convolution had; as many as in
    the model are taken for granted.

    The kernels of an ``nn.Conv2d``, (out, in / groups, height, width), are
    made those of an ``nn.Conv3d`` that has a time before these two. Its input
    channels may differ too.

    An in-feature of a linear layer may stand for anything (a patch embedding
    may have its pixels channel by channel or position by position), so only
    a list, with an entry for each in-feature, says enough. For 5 channels of
    patches that ``nn.Unfold`` has made of 16 pixels:
    ``[16 * c + i for c in [0, 1, 2, 0, 0] for i in range(16)]``.

    Use it in a rule of ``CustomModuleInitHook``, for what ``Pretrained`` in
    the backbone could not load. Many backbones ask whether their own
    ``init_cfg`` is of the type ``'Pretrained'``, and with another write over
    what it has loaded, or refuse it. Where none does, put it last in the
    list: MMEngine moves only ``Pretrained`` itself to the end. Children are
    initialized before it loads, as with ``Pretrained``, except that
    ``init_weights()`` of a child that is no ``BaseModule`` runs again
    afterwards.

    Args:
        checkpoint (str): File or URL, as ``Pretrained`` takes it.
        prefix (str, optional): The part of the checkpoint to take. Defaults
            to None: all. A ``module.`` in front, as DDP leaves it, is taken
            off first.
        map_location (str): Where to load tensors to. Defaults to ``'cpu'``.
        channels (str | list[int]): What the input channels start from.

            - ``'repeat'``: the pretrained ones over and over, times old / new
              so that activations keep their size, as ``adapt_input_conv`` in
              `timm <https://github.com/huggingface/pytorch-image-models>`_
              does. With fewer than pretrained, the first ones (timm sums
              them for one channel).
            - ``'mean'``: the pretrained ones, and their mean in all others.
            - ``'zero'``: the pretrained ones, and 0 in all others, which the
              network learns to use: at first it gives what it gave.
            - a list: for each channel of the model, the pretrained one that
              it takes, as it is.

            With fewer channels than pretrained, ``'mean'`` and ``'zero'`` are
            an error: there is nothing to fill. Defaults to ``'repeat'``.
        revise_keys (list[tuple[str, str]]): Patterns and replacements for
            ``re.sub``, as in MMEngine's ``load_checkpoint``, applied one
            after the other to the names that the prefix has left. Defaults to
            (): names stay.
        inflate (str): How 2-D kernels become 3-D: ``'mean'``, all along the
            time and divided by its length, so that an image that stands still
            gives what it gave; ``'center'``, in the middle, and 0 elsewhere.
            mmaction2 has the one for its ``ResNet3d`` and the other for its
            ``UniFormer``. Defaults to ``'mean'``.
        classes (list[str] | dict, optional): Names of the model's classes, in
            order, to give each the rows that the checkpoint has for the class
            of that name; of mmdet's heads. Or a dict with ``old``, the names
            of the checkpoint's classes, and ``new``, those of the model's.
            Old ones that are left out are what the checkpoint says
            (``meta.dataset_meta``), new ones what the config's train dataset
            does, which only a rule of the hook and the command know. Rows of
            classes that the checkpoint lacks stay as they are. Defaults to
            None: rows stay in their order.

    Raises:
        ValueError: If ``channels``, ``revise_keys``, ``inflate`` or
            ``classes`` is none of these; on use, if no name has the prefix,
            if a pattern is in no name, if two tensors would get one name, if
            classes are not known or none is in the checkpoint, if a head is
            not known, or if a tensor of the checkpoint does not fit and
            cannot be adapted.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: Optional[str] = None,
        map_location: str = 'cpu',
        channels: Channels = 'repeat',
        revise_keys: Pairs = (),
        inflate: str = 'mean',
        classes: Union[None, Sequence[str], Dict[str, Sequence[str]]] = None,
    ) -> None:
        super().__init__(checkpoint, prefix, map_location)
        if channels not in CHANNELS and not is_list(channels):
            raise ValueError(
                "AdaptedPretrained: `channels` is 'repeat', 'mean', 'zero' or "
                'a list that has for each input channel of the model the '
                f'number of a pretrained one, from 0; not {channels!r}'
            )
        if inflate not in INFLATE:
            raise ValueError(
                "AdaptedPretrained: `inflate` is 'mean' or 'center', not "
                f'{inflate!r}'
            )
        self.channels, self.inflate = channels, inflate
        self.revise_keys = checked_pairs(revise_keys)
        self.classes = checked_classes(classes)

    def obstacle(self, module: nn.Module) -> str:
        """Why a module cannot be initialized so; '' if it can."""
        return '' if self.classes is None else obstacle(module)

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into a module."""
        _init_children(module)
        found = self._read()
        rows = self._rows(module, found)
        adapted: List[str] = []
        problems: List[str] = []

        # Run by each module right before it loads, after hooks of the
        # model's own have renamed the keys.
        adapt = partial(self._adapt, rows, adapted, problems)
        hooks = [
            child._register_load_state_dict_pre_hook(adapt, with_module=True)
            for child in module.modules()
        ]
        try:
            self._load(module, found)
        finally:
            for hook in hooks:
                hook.remove()
        if problems:
            raise ValueError(
                f'{self.checkpoint} does not fit {type(module).__name__}: '
                + '; '.join(problems)
            )
        print_log(
            f'shapes adapted ({self._how()}): '
            f'{", ".join(adapted) or "none, all shapes fit"}',
            logger='current',
        )
        if rows:
            note = f'{self.checkpoint} gives {rows.note()}'
            print_log(note, logger='current')
            around().notes.append(note)

    def _adapt(
        self,
        rows: Optional[ClassRows],
        adapted: List[str],
        problems: List[str],
        module: nn.Module,
        state: Dict[str, Any],
        prefix: str,
        *args: Any,
    ) -> None:
        """Adapt the entries of a state dict that a module itself takes."""
        temporary = module._non_persistent_buffers_set
        for key, tensor in {**module._parameters, **module._buffers}.items():
            name = prefix + key
            value: Any = state.get(name)
            by_name = rows and rows.has(tensor) and value is not None
            if key in temporary or not (by_name or differ(tensor, value)):
                continue
            try:
                if rows and by_name:
                    state[name] = rows.fitted(value, tensor)
                else:
                    state[name] = fitted(
                        module, key, value, tensor, self.channels, self.inflate
                    )
                    adapted.append(name)
            except ValueError as error:
                more = f'; {WAY_OUT}' if rows and not by_name else ''
                problems.append(
                    f'{name} has the shape {tuple(value.shape)} in the '
                    f'checkpoint and {tuple(tensor.shape)} in the model, '
                    f'and {error}{more}'
                )

    def _get_init_info(self) -> str:
        return f'{super()._get_init_info()}, {self._how()}'

    def _how(self) -> str:
        return f'channels={self.channels!r}, inflate={self.inflate!r}'

    def _read(self) -> Dict[str, Any]:
        """What the file holds."""
        # As in MMEngine: this imports DeepSpeed, where it is installed.
        from mmengine.runner import CheckpointLoader

        part = f'{self.prefix} of the' if self.prefix else 'the'
        print_log(
            f'load {part} model from: {self.checkpoint}', logger='current'
        )
        found = CheckpointLoader.load_checkpoint(
            self.checkpoint, self.map_location, 'current'
        )
        if not isinstance(found, dict):
            raise ValueError(
                f'{self.checkpoint} holds a {type(found).__name__}, and no '
                'state dict'
            )
        return found

    def _rows(
        self, module: nn.Module, found: Dict[str, Any]
    ) -> Optional[ClassRows]:
        """What gives rows by the names of classes, where that is wanted."""
        if self.classes is None:
            return None
        try:
            return ClassRows(module, *both_names(self.classes, found))
        except ValueError as error:
            raise ValueError(f'of {self.checkpoint}, {error}') from error

    def _load(self, module: nn.Module, found: Dict[str, Any]) -> None:
        """Load the checkpoint under the names that the module has."""
        from mmengine.runner import load_state_dict

        state = found.get('state_dict', found)
        try:
            state = renamed(state, self.prefix, self.revise_keys)
        except ValueError as error:
            raise ValueError(f'of {self.checkpoint}, {error}') from error
        load_state_dict(module, state, strict=False, logger='current')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def _init_children(module: nn.Module) -> None:
    """Do what ``BaseModule.init_weights`` does before ``Pretrained``, and
    would do after any other ``init_cfg``: it knows that one by its name.
    """
    if not hasattr(module, '_params_init_info'):  # not in init_weights()
        return
    for child in module.children():
        if is_model_wrapper(child) and not hasattr(child, 'init_weights'):
            child = child.module
        if hasattr(child, 'init_weights') and not getattr(
            child, 'is_init', False
        ):
            child.init_weights()
            update_init_info(
                child,
                init_info='Initialized by user-defined `init_weights` in '
                f'{type(child).__name__} ',
            )
