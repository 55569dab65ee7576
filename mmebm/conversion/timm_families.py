"""The same network in MMPretrain and in timm: its options and the names of its tensors.

Each family has three pure functions: two read the options of a network of either library, in timm's
terms, and one turns options into MMPretrain's config. One table maps MMPretrain's tensor names to
timm's and is used in both directions.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from timm.models import convnext, swin_transformer, vision_transformer
from torch import Tensor, nn

# C channels, kh × kw the positions that patch merging joins.

Options = dict[str, Any]  # named as in timm's create_model


class Family(NamedTuple):
    """A kind of network that both libraries have.

    Attributes:
        types: names of MMPretrain's classes.
        timm_type: timm's class.
        timm_names: regular expression for the plain names in timm's registry.
        of_mmpretrain, of_timm: read the options of a network.
        config: MMPretrain's config of a backbone with these options.
        names: pairs of MMPretrain's and timm's names of tensors, or of modules that hold them.
        free: options that can be set for any name in the registry.
        head: timm's name of the linear classifier.
        merges_patches: whether tensors of ``downsample`` modules are ordered differently.
    """

    types: tuple[str, ...]
    timm_type: type[nn.Module]
    timm_names: str
    of_mmpretrain: Callable[[nn.Module], Options]
    of_timm: Callable[[nn.Module], Options]
    config: Callable[[Options], Options]
    names: Callable[[Options], Iterator[tuple[str, str]]]
    free: tuple[str, ...]
    head: str
    merges_patches: bool = False


def family_of(network: nn.Module) -> Family:
    """The family of a backbone of MMPretrain or of a network of timm.

    Raises:
        ValueError: it belongs to none; names the supported ones.
    """
    for family in FAMILIES:
        if type(network) is family.timm_type or type(network).__name__ in family.types:
            return family
    known = ', '.join(family.types[0] for family in FAMILIES)
    raise ValueError(
        f'{type(network).__name__} is not supported: only {known} can be converted between '
        'MMPretrain and timm'
    )


def to_timm(
    family: Family, options: Options, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename a checkpoint's tensors for timm, and reorder those of patch merging.

    Args:
        family: of the network.
        options: of the network, from ``family.of_mmpretrain``.
        tensors: by name, with the prefixes ``backbone.`` and ``head.``.

    Returns:
        timm's tensors by name, and the names of those without a counterpart.
    """
    names = {ours: theirs for ours, theirs in family.names(options)}
    names['head.fc'] = family.head
    reorder = merge_order_to_timm if family.merges_patches else None
    return _converted(tensors, names, reorder)


def from_timm(
    family: Family, options: Options, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The inverse of :func:`to_timm`; ``options`` from ``family.of_timm``."""
    names = {theirs: ours for ours, theirs in family.names(options)}
    names[family.head] = 'head.fc'
    reorder = merge_order_from_timm if family.merges_patches else None
    return _converted(tensors, names, reorder)


def merge_order_to_timm(tensor: Tensor) -> Tensor:
    """Reorder the input axis of 2 × 2 patch merging.

    From MMCV's order, that of ``Unfold``, ``(..., C·kh·kw)``, to timm's ``(..., kw·kh·C)``.
    """
    channels = tensor.shape[-1] // 4
    return tensor.unflatten(-1, (channels, 2, 2)).transpose(-1, -3).flatten(-3)


def merge_order_from_timm(tensor: Tensor) -> Tensor:
    """The inverse of :func:`merge_order_to_timm`: ``(..., kw·kh·C)`` → ``(..., C·kh·kw)``."""
    return tensor.unflatten(-1, (2, 2, tensor.shape[-1] // 4)).transpose(-1, -3).flatten(-3)


def _converted(
    tensors: Mapping[str, Tensor],
    names: Mapping[str, str],
    reorder: Callable[[Tensor], Tensor] | None,
) -> tuple[dict[str, Tensor], list[str]]:
    converted, left = {}, []
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition('.')
        if name in names:
            target = names[name]
        elif module in names:
            target = f'{names[module]}.{leaf}'
        else:
            left.append(name)
            continue
        if reorder is not None and '.downsample.' in name:
            tensor = reorder(tensor)
        converted[target] = tensor
    return converted, left


# MMPretrain's out_type and final_norm ↔ timm's global_pool and fc_norm, where None is timm's
# default: after pooling for averages, before it otherwise.
_VIT_OUTPUTS = {
    ('avg_featmap', False): ('avg', None),
    ('featmap', True): ('avg', False),
    ('cls_token', True): ('token', None),
    ('raw', True): ('', None),
}


def _vit_of_mmpretrain(backbone: nn.Module) -> Options:
    output = backbone.out_type, backbone.final_norm
    if output not in _VIT_OUTPUTS:
        known = ', '.join(f'{o}/{n}' for o, n in _VIT_OUTPUTS)
        raise ValueError(
            f"timm has no VisionTransformer with out_type='{output[0]}', final_norm={output[1]}; "
            f'it has {known}'
        )
    pool, fc_norm = _VIT_OUTPUTS[output]
    layer = backbone.layers[0]
    return dict(
        img_size=_side(backbone.img_size),
        patch_size=_side(backbone.patch_embed.projection.kernel_size),
        in_chans=backbone.patch_embed.projection.in_channels,
        embed_dim=backbone.embed_dims,
        depth=len(backbone.layers),
        num_heads=layer.attn.num_heads,
        mlp_ratio=backbone.arch_settings['feedforward_channels'] / backbone.embed_dims,
        qkv_bias=layer.attn.qkv.bias is not None,
        init_values=None if _is_absent(layer.attn.gamma1) else 1e-5,
        class_token=backbone.with_cls_token,
        pre_norm=not _is_absent(backbone.pre_norm),
        eps=layer.ln1.eps,
        global_pool=pool,
        fc_norm=fc_norm,
    )


def _vit_of_timm(model: nn.Module) -> Options:
    block = model.blocks[0]
    fc_norm = not _is_absent(model.fc_norm)
    return dict(
        img_size=_side(model.patch_embed.img_size),
        patch_size=_side(model.patch_embed.patch_size),
        in_chans=model.patch_embed.proj.in_channels,
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=block.attn.num_heads,
        mlp_ratio=block.mlp.fc1.out_features / model.embed_dim,
        qkv_bias=block.attn.qkv.bias is not None,
        init_values=None if _is_absent(block.ls1) else 1e-5,
        class_token=model.cls_token is not None,
        pre_norm=not _is_absent(model.norm_pre),
        eps=block.norm1.eps,
        global_pool=model.global_pool,
        fc_norm=None if fc_norm == (model.global_pool == 'avg') else fc_norm,
    )


def _vit_config(options: Options) -> Options:
    outputs = {timm: ours for ours, timm in _VIT_OUTPUTS.items()}
    output = options['global_pool'], options['fc_norm']
    if output not in outputs:
        raise ValueError(
            f'MMPretrain has no VisionTransformer with global_pool={output[0]!r}, '
            f'fc_norm={output[1]}: give another in --model-kwargs'
        )
    out_type, final_norm = outputs[output]
    arch = dict(
        embed_dims=options['embed_dim'],
        num_layers=options['depth'],
        num_heads=options['num_heads'],
        feedforward_channels=round(options['embed_dim'] * options['mlp_ratio']),
    )
    config = dict(
        type='VisionTransformer',
        arch=arch,
        img_size=options['img_size'],
        patch_size=options['patch_size'],
        in_channels=options['in_chans'],
        qkv_bias=options['qkv_bias'],
        norm_cfg=dict(type='LN', eps=options['eps']),
        layer_scale_init_value=options['init_values'] or 0.0,
        with_cls_token=options['class_token'],
        pre_norm=options['pre_norm'],
        out_type=out_type,
        final_norm=final_norm,
    )
    defaults = dict(
        in_channels=3,
        qkv_bias=True,
        norm_cfg=dict(type='LN', eps=1e-6),
        layer_scale_init_value=0.0,
        with_cls_token=True,
        pre_norm=False,
    )
    return _without(config, defaults)


def _vit_names(options: Options) -> Iterator[tuple[str, str]]:
    for ours, theirs in (
        ('cls_token', 'cls_token'),
        ('pos_embed', 'pos_embed'),
        ('patch_embed.projection', 'patch_embed.proj'),
        ('pre_norm', 'norm_pre'),
        ('ln1', 'norm'),
        ('ln2', 'fc_norm'),
    ):
        yield f'backbone.{ours}', theirs
    for i in range(options['depth']):
        for ours, theirs in (
            ('ln1', 'norm1'),
            ('attn.qkv', 'attn.qkv'),
            ('attn.proj', 'attn.proj'),
            ('attn.gamma1.weight', 'ls1.gamma'),
            ('ln2', 'norm2'),
            ('ffn.layers.0.0', 'mlp.fc1'),
            ('ffn.layers.1', 'mlp.fc2'),
            ('ffn.gamma2.weight', 'ls2.gamma'),
        ):
            yield f'backbone.layers.{i}.{ours}', f'blocks.{i}.{theirs}'


def _convnext_of_mmpretrain(backbone: nn.Module) -> Options:
    block = backbone.stages[0][0]
    return dict(
        in_chans=backbone.downsample_layers[0][0].in_channels,
        patch_size=_side(backbone.downsample_layers[0][0].stride),
        depths=list(backbone.depths),
        dims=list(backbone.channels),
        ls_init_value=None if block.gamma is None else 1e-6,
        use_grn=block.grn is not None,
        conv_mlp=not block.linear_pw_conv,
        norm_eps=block.norm.eps,
        head_norm_first=not backbone.gap_before_final_norm,
    )


def _convnext_of_timm(model: nn.Module) -> Options:
    block = model.stages[0].blocks[0]
    return dict(
        in_chans=model.stem[0].in_channels,
        patch_size=_side(model.stem[0].stride),
        depths=[len(stage.blocks) for stage in model.stages],
        dims=[stage.blocks[0].conv_dw.out_channels for stage in model.stages],
        ls_init_value=None if block.gamma is None else 1e-6,
        use_grn=hasattr(block.mlp, 'grn') and not _is_absent(block.mlp.grn),
        conv_mlp=block.use_conv_mlp,
        norm_eps=block.norm.eps,
        head_norm_first=not _is_absent(model.norm_pre),
    )


def _convnext_config(options: Options) -> Options:
    config = dict(
        type='ConvNeXt',
        arch=dict(depths=options['depths'], channels=options['dims']),
        in_channels=options['in_chans'],
        stem_patch_size=options['patch_size'],
        norm_cfg=dict(type='LN2d', eps=options['norm_eps']),
        linear_pw_conv=not options['conv_mlp'],
        use_grn=options['use_grn'],
        layer_scale_init_value=options['ls_init_value'] or 0.0,
        gap_before_final_norm=not options['head_norm_first'],
    )
    defaults = dict(
        in_channels=3,
        stem_patch_size=4,
        norm_cfg=dict(type='LN2d', eps=1e-6),
        linear_pw_conv=True,
        use_grn=False,
        layer_scale_init_value=1e-6,
        gap_before_final_norm=True,
    )
    return _without(config, defaults)


def _convnext_names(options: Options) -> Iterator[tuple[str, str]]:
    for k in (0, 1):
        yield f'backbone.downsample_layers.0.{k}', f'stem.{k}'
        for i in range(1, len(options['depths'])):
            yield f'backbone.downsample_layers.{i}.{k}', f'stages.{i}.downsample.{k}'
    for i, depth in enumerate(options['depths']):
        for k in range(depth):
            for ours, theirs in (
                ('depthwise_conv', 'conv_dw'),
                ('norm', 'norm'),
                ('pointwise_conv1', 'mlp.fc1'),
                ('pointwise_conv2', 'mlp.fc2'),
                ('grn.gamma', 'mlp.grn.weight'),
                ('grn.beta', 'mlp.grn.bias'),
                ('gamma', 'gamma'),
            ):
                yield f'backbone.stages.{i}.{k}.{ours}', f'stages.{i}.blocks.{k}.{theirs}'
    last = len(options['depths']) - 1
    yield f'backbone.norm{last}', 'norm_pre' if options['head_norm_first'] else 'head.norm'


def _swin_of_mmpretrain(backbone: nn.Module) -> Options:
    patch_size = backbone.patch_embed.projection.kernel_size
    block = backbone.stages[0].blocks[0]
    return dict(
        img_size=_side([n * p for n, p in zip(backbone.patch_resolution, patch_size, strict=True)]),
        patch_size=_side(patch_size),
        in_chans=backbone.patch_embed.projection.in_channels,
        embed_dim=backbone.embed_dims,
        depths=list(backbone.depths),
        num_heads=list(backbone.num_heads),
        window_size=_side(block.attn.window_size),
        eps=block.norm1.eps,
    )


def _swin_of_timm(model: nn.Module) -> Options:
    return dict(
        img_size=_side(model.patch_embed.img_size),
        patch_size=_side(model.patch_embed.patch_size),
        in_chans=model.patch_embed.proj.in_channels,
        embed_dim=model.embed_dim,
        depths=[len(layer.blocks) for layer in model.layers],
        num_heads=[layer.blocks[0].attn.num_heads for layer in model.layers],
        window_size=_side(model.layers[0].blocks[0].window_size),
        eps=model.layers[0].blocks[0].norm1.eps,
    )


def _swin_config(options: Options) -> Options:
    config = dict(
        type='SwinTransformer',
        arch=dict(
            embed_dims=options['embed_dim'],
            depths=options['depths'],
            num_heads=options['num_heads'],
        ),
        img_size=options['img_size'],
        patch_size=options['patch_size'],
        in_channels=options['in_chans'],
        window_size=options['window_size'],
        out_indices=(len(options['depths']) - 1,),
    )
    return _without(config, dict(in_channels=3, out_indices=(3,)))


def _swin_names(options: Options) -> Iterator[tuple[str, str]]:
    yield 'backbone.patch_embed.projection', 'patch_embed.proj'
    yield 'backbone.patch_embed.norm', 'patch_embed.norm'
    last = len(options['depths']) - 1
    for i, depth in enumerate(options['depths']):
        for k in range(depth):
            table = 'relative_position_bias_table'
            for ours, theirs in (
                ('norm1', 'norm1'),
                (f'attn.w_msa.{table}', f'attn.{table}'),
                ('attn.w_msa.qkv', 'attn.qkv'),
                ('attn.w_msa.proj', 'attn.proj'),
                ('norm2', 'norm2'),
                ('ffn.layers.0.0', 'mlp.fc1'),
                ('ffn.layers.1', 'mlp.fc2'),
            ):
                yield f'backbone.stages.{i}.blocks.{k}.{ours}', f'layers.{i}.blocks.{k}.{theirs}'
        if i < last:  # MMPretrain ends a stage with patch merging, timm begins the next with it
            for part in ('norm', 'reduction'):
                ours = f'backbone.stages.{i}.downsample.{part}'
                yield ours, f'layers.{i + 1}.downsample.{part}'
    yield f'backbone.norm{last}', 'norm'


def _side(size: int | list | tuple) -> int | list:
    """The side of a square, or both sides of a rectangle."""
    sides = list(size) if isinstance(size, list | tuple) else [size]
    return sides[0] if len(set(sides)) == 1 else sides


def _is_absent(module: nn.Module | None) -> bool:
    return module is None or isinstance(module, nn.Identity)


def _without(config: Options, defaults: Options) -> Options:
    return {k: v for k, v in config.items() if k not in defaults or v != defaults[k]}


FAMILIES = (
    Family(
        ('VisionTransformer', 'MAEViT'),
        vision_transformer.VisionTransformer,
        r'vit_[a-z]+_patch\d+_\d+',
        _vit_of_mmpretrain,
        _vit_of_timm,
        _vit_config,
        _vit_names,
        ('img_size', 'in_chans', 'global_pool', 'fc_norm'),
        'head',
    ),
    Family(
        ('ConvNeXt',),
        convnext.ConvNeXt,
        r'convnext(v2)?_[a-z]+',
        _convnext_of_mmpretrain,
        _convnext_of_timm,
        _convnext_config,
        _convnext_names,
        ('in_chans', 'conv_mlp', 'head_norm_first'),
        'head.fc',
    ),
    Family(
        ('SwinTransformer', 'SimMIMSwinTransformer'),
        swin_transformer.SwinTransformer,
        r'swin_[a-z]+_patch\d+_window\d+_\d+',
        _swin_of_mmpretrain,
        _swin_of_timm,
        _swin_config,
        _swin_names,
        ('img_size', 'in_chans'),
        'head.fc',
        merges_patches=True,
    ),
)
