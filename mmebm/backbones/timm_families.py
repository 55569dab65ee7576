"""Networks that MMPretrain and timm both have: names of tensors by tables, and options."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

# C channels, kh × kw the positions that patch merging joins.

Options = dict[str, Any]

# MMPretrain's and timm's name of a tensor, or of a module that holds some. # stands for a number,
# {...} for what :func:`rename` knows.
_NAMES = {
    'VisionTransformer': """
        cls_token                         cls_token
        pos_embed                         pos_embed
        patch_embed.projection            patch_embed.proj
        pre_norm                          norm_pre
        layers.#.ln1                      blocks.#.norm1
        layers.#.attn.qkv                 blocks.#.attn.qkv
        layers.#.attn.proj                blocks.#.attn.proj
        layers.#.attn.gamma1.weight       blocks.#.ls1.gamma
        layers.#.ln2                      blocks.#.norm2
        layers.#.ffn.layers.0.0           blocks.#.mlp.fc1
        layers.#.ffn.layers.1             blocks.#.mlp.fc2
        layers.#.ffn.gamma2.weight        blocks.#.ls2.gamma
        ln1                               norm
        ln2                               fc_norm
    """,
    'ConvNeXt': """
        downsample_layers.0               stem
        downsample_layers.#               stages.#.downsample
        stages.#.#.depthwise_conv         stages.#.blocks.#.conv_dw
        stages.#.#.norm                   stages.#.blocks.#.norm
        stages.#.#.pointwise_conv1        stages.#.blocks.#.mlp.fc1
        stages.#.#.pointwise_conv2        stages.#.blocks.#.mlp.fc2
        stages.#.#.grn.gamma              stages.#.blocks.#.mlp.grn.weight
        stages.#.#.grn.beta               stages.#.blocks.#.mlp.grn.bias
        stages.#.#.gamma                  stages.#.blocks.#.gamma
        norm{last}                        {norm}
    """,
    'SwinTransformer': """
        patch_embed.projection            patch_embed.proj
        patch_embed.norm                  patch_embed.norm
        stages.#.blocks.#.norm1           layers.#.blocks.#.norm1
        stages.#.blocks.#.attn.w_msa.qkv  layers.#.blocks.#.attn.qkv
        stages.#.blocks.#.attn.w_msa.proj layers.#.blocks.#.attn.proj
        stages.#.blocks.#.attn.w_msa.{bias} layers.#.blocks.#.attn.{bias}
        stages.#.blocks.#.norm2           layers.#.blocks.#.norm2
        stages.#.blocks.#.ffn.layers.0.0  layers.#.blocks.#.mlp.fc1
        stages.#.blocks.#.ffn.layers.1    layers.#.blocks.#.mlp.fc2
        stages.0.downsample               layers.1.downsample
        stages.1.downsample               layers.2.downsample
        stages.2.downsample               layers.3.downsample
        norm{last}                        norm
    """,
}
# timm's and transformers' of a ViT; queries, keys and values lie in three tensors there
_TRANSFORMERS = """
    cls_token                         embeddings.cls_token
    pos_embed                         embeddings.position_embeddings
    patch_embed.proj                  embeddings.patch_embeddings.projection
    blocks.#.norm1                    encoder.layer.#.layernorm_before
    blocks.#.attn.query               encoder.layer.#.attention.attention.query
    blocks.#.attn.key                 encoder.layer.#.attention.attention.key
    blocks.#.attn.value               encoder.layer.#.attention.attention.value
    blocks.#.attn.proj                encoder.layer.#.attention.output.dense
    blocks.#.norm2                    encoder.layer.#.layernorm_after
    blocks.#.mlp.fc1                  encoder.layer.#.intermediate.dense
    blocks.#.mlp.fc2                  encoder.layer.#.output.dense
    norm                              layernorm
    fc_norm                           layernorm
"""
# MMPretrain's out_type and final_norm ↔ timm's global_pool and whether it has fc_norm
_VIT_OUTPUTS = {
    ('avg_featmap', False): ('avg', True),
    ('featmap', True): ('avg', False),
    ('cls_token', True): ('token', False),
    ('raw', True): ('', False),
}


def family_of(network: nn.Module) -> str:
    """The name of MMPretrain's class, which is timm's too, also of MAE's and SimMIM's variants."""
    classes = [cls.__name__ for cls in type(network).__mro__]
    for name in _NAMES:
        if name in classes:
            return name
    raise ValueError(f'{classes[0]} is none of {", ".join(_NAMES)}, which timm has, too')


def rename(
    tensors: Mapping[str, Tensor], backbone: nn.Module, to_timm: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Give tensors the names of the other library, and reorder those of Swin's patch merging.

    Also returns the names of those without a counterpart. MMPretrain's names have the prefixes
    ``backbone.`` and ``head.``; ``backbone`` is MMPretrain's.
    """
    family = family_of(backbone)
    norm = 'head.norm' if getattr(backbone, 'gap_before_final_norm', True) else 'norm_pre'
    last = len(getattr(backbone, 'depths', ())) - 1
    table = _NAMES[family].format(last=last, norm=norm, bias='relative_position_bias_table')
    pairs = [f'backbone.{line.strip()}'.split() for line in table.strip().splitlines()]
    pairs.append(['head.fc', 'head' if family == 'VisionTransformer' else 'head.fc'])
    if family == 'SwinTransformer':
        tensors = {
            name: merge_order(tensor, to_timm) if '.downsample.' in name else tensor
            for name, tensor in tensors.items()
        }
    return _renamed(tensors, pairs if to_timm else [pair[::-1] for pair in pairs])


def for_transformers(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a timm ViT as transformers' ``ViTModel`` has them; and names of the others."""
    split = dict(tensors)
    for name in [name for name in tensors if '.attn.qkv.' in name]:
        for part, each in zip(('query', 'key', 'value'), split.pop(name).chunk(3), strict=True):
            split[name.replace('.qkv.', f'.{part}.')] = each
    return _renamed(split, [line.split() for line in _TRANSFORMERS.strip().splitlines()])


def _renamed(tensors: Mapping[str, Tensor], pairs: Sequence[Sequence[str]]) -> tuple[dict, list]:
    renamed, left = {}, []
    for name, tensor in tensors.items():
        for old, new in pairs:
            match = re.fullmatch(re.escape(old).replace(r'\#', r'(\d+)') + r'(|\..+)', name)
            if match:
                renamed[(new.replace('#', '{}') + '{}').format(*match.groups())] = tensor
                break
        else:
            left.append(name)
    return renamed, left


def with_late_merging(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Swin's first files merge patches at the end of a stage, timm at the beginning of the next."""
    pattern, first = r'layers\.(\d)(?=\.downsample\.)', 'layers.0.downsample.norm.weight' in tensors
    return {
        re.sub(pattern, lambda m: f'layers.{int(m[1]) + first}', name): tensor
        for name, tensor in tensors.items()
    }


def merge_order(tensor: Tensor, to_timm: bool) -> Tensor:
    """MMCV's order of Swin's 2 × 2 patch merging ``(..., C·kh·kw)`` ↔ timm's ``(..., kw·kh·C)``."""
    channels = tensor.shape[-1] // 4
    sizes = (channels, 2, 2) if to_timm else (2, 2, channels)
    return tensor.unflatten(-1, sizes).transpose(-1, -3).flatten(-3)


def arguments_of(backbone: nn.Module) -> Options:
    """What ``timm.create_model`` needs beside a name of this size, from MMPretrain's backbone."""
    family = family_of(backbone)
    if family == 'ConvNeXt':
        convolutions = not backbone.stages[0][0].linear_pw_conv
        return dict(conv_mlp=convolutions, head_norm_first=not backbone.gap_before_final_norm)
    if family == 'SwinTransformer':
        return dict(img_size=tuple(backbone.patch_embed.init_input_size))
    output = backbone.out_type, backbone.final_norm
    if output not in _VIT_OUTPUTS:
        raise ValueError('timm has no ViT with out_type={!r}, final_norm={}'.format(*output))
    pool, fc_norm = _VIT_OUTPUTS[output]
    return dict(img_size=tuple(backbone.img_size), global_pool=pool, fc_norm=fc_norm)
