"""Any backbone and image size in the configs of configs/small, for all methods alike.

The configs of configs/small are made for three small networks and images of 32². Here their
network is replaced by another one, and what follows from its size: heads, decoders, masks and
crops. Length, optimizer, schedule and augmentation stay, and so the terms are equal.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import timm
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ...conversion import timm_families
from ...models.energy_head import pool_features
from ..pretraining.inpainting import LARGE_IMAGE, check_inpainting, inpainting_model
from ..pretraining.network import Network, config_of, try_out
from ..pretraining.plan import edge_before_crop, suitable_scale

SMALL_SIZE = 32  # pixels of a side of the images that configs/small is made for
DROP_PATH = 0.1  # in finetuning, as in configs/small
SMALL_LAYERS = 4  # of the decoders in configs/small
# What MMPretrain's own methods for a network can be told. With any other option it is another one.
VIT_OPTIONS = {'patch_size', 'norm_cfg', 'out_type', 'final_norm'}
SWIN_OPTIONS = {'patch_size', 'window_size', 'out_indices'}


@dataclass(frozen=True)
class BenchmarkBackbone:
    """What every method of a comparison trains.

    Attributes:
        network: as found by running it once.
        inpainting: whether it can leave patches out.
        layer_depth: whether it tells how deep a parameter lies, for layer-wise decay.
    """

    network: Network
    inpainting: bool
    layer_depth: bool

    @property
    def patch_size(self) -> int | None:
        """Side of its patches, see :class:`Network`."""
        return self.network.patch_size

    @property
    def config(self) -> dict:
        """That of the network itself, without a change of its norms."""
        return self.network.config.get('backbone', self.network.config)

    @property
    def is_vit(self) -> bool:
        """Whether it is MMPretrain's plain ViT, which MAE, BEiT and auto-encoders train."""
        return self._is('VisionTransformer', VIT_OPTIONS)

    @property
    def is_swin(self) -> bool:
        """Whether it is MMPretrain's plain Swin, of which SimMIM takes its own."""
        return self._is('SwinTransformer', SWIN_OPTIONS)

    def _is(self, kind: str, options: set[str]) -> bool:
        known = options | {'type', 'arch', 'img_size', 'drop_path_rate'}
        return self.config['type'] == kind and set(self.config) <= known

    @property
    def cell(self) -> int:
        """Side of what a mask hides at once, in pixels: a patch, or a fourteenth of the image."""
        return self.patch_size or max(4, self.network.image_size // 14)

    def __str__(self) -> str:
        network, kind = self.network, self.config['type']
        norms = f', {network.group_norm} batch norms as group norms' if network.group_norm else ''
        return (
            f'{network.name} ({kind}): {network.parameters / 1e6:.1f} million parameters, images '
            f'of {network.image_size} × {network.image_size}{norms}'
        )


def find_backbone(
    name: str, image_size: int | None, width: int | None = None, depth: int | None = None
) -> BenchmarkBackbone:
    """Build a backbone, and run it once.

    A network of timm that MMPretrain has too becomes MMPretrain's, so that all methods can train
    it.

    Args:
        name: see :func:`mmebm.apis.pretraining.network.find`; or the path of a config of
            configs/small.
        image_size: side in pixels; None takes the backbone's own.
        width, depth: of a ViT; None leaves them.

    Raises:
        FileNotFoundError, ValueError: it cannot be pretrained; says why.
    """
    init_default_scope('mmpretrain')
    config, own = config_of(name)
    size = image_size or own
    if config['type'] == 'TIMMBackbone':
        config = as_mmpretrain(config['model_name'], size) or config
    arch, zoo = config.get('arch'), getattr(MODELS.get(config['type']), 'arch_zoo', {})
    if isinstance(arch, str) and arch.lower() in zoo:
        config['arch'] = dict(zoo[arch.lower()])
    if width is not None or depth is not None:
        resize_vit(config, width, depth)
    config.pop('drop_path_rate', None)
    if _takes(config, drop_path_rate=0.0):  # what a Swin does by default
        config['drop_path_rate'] = 0.0
    network = try_out(name, config, size, own, keep_batch_norm=False)
    backbone = MODELS.build(network.config)
    return BenchmarkBackbone(network, _inpaints(network), hasattr(backbone, 'get_layer_depth'))


def _inpaints(network: Network) -> bool:
    try:
        check_inpainting(network)
    except ValueError:
        return False
    return True


def _takes(config: dict, **options) -> bool:
    try:
        MODELS.build({**config, **options})
    except TypeError:
        return False
    return True


def as_mmpretrain(model_name: str, size: int) -> dict | None:
    """MMPretrain's config of a network of timm; None if MMPretrain has no such network."""
    network = None
    for options in (dict(img_size=size), {}):  # some networks take any size
        try:
            network = timm.create_model(model_name, num_classes=0, global_pool='avg', **options)
            break
        except TypeError:
            continue
    try:
        config = timm_families.config_of(network)
    except (ValueError, AttributeError):  # another class, or one with other parts
        return None
    built = MODELS.build(config)
    parameters = dict(network.named_parameters())
    converted, left = timm_families.rename(parameters, built, to_timm=False)
    theirs = {name: parameter.shape for name, parameter in converted.items()}
    ours = {f'backbone.{n}': p.shape for n, p in built.named_parameters()}
    return config if theirs == ours and not left else None


def resize_vit(backbone: dict, width: int | None, depth: int | None) -> None:
    """Give a ViT's config ``width`` channels and ``depth`` layers.

    Raises:
        ValueError: it is no ViT, or the width is not a multiple of the number of attention heads.
    """
    arch = backbone.get('arch')
    if not isinstance(arch, dict) or 'num_layers' not in arch:
        raise ValueError(f'width and depth can be set for a ViT only, got {backbone["type"]}')
    width, depth = width or arch['embed_dims'], depth or arch['num_layers']
    if width % arch['num_heads']:
        raise ValueError(f'width must be a multiple of the {arch["num_heads"]} heads, got {width}')
    arch.update(embed_dims=width, num_layers=depth, feedforward_channels=4 * width)


# Methods ----------------------------------------------------------------------------------------


def reason_against(method: str, backbone: BenchmarkBackbone) -> str | None:
    """Why a method, by its name in configs/small, cannot train a backbone; None if it can."""
    if method == 'simmim':
        return None if backbone.is_swin else "needs MMPretrain's SwinTransformer"
    if method.startswith(('mae', 'beit', 'ae-')):
        return None if backbone.is_vit else "needs MMPretrain's VisionTransformer"
    if method.startswith('energy-inpainting'):
        return None if backbone.inpainting else 'needs a plain vision transformer'
    if method.startswith(('energy-sorting', 'energy-hidden')):
        return None if backbone.patch_size else 'needs one position embedding per patch'
    return None


def name_of(method: str, backbone: BenchmarkBackbone) -> str:
    """A method's name with the size of its masks and the scale of its corruption."""
    scale = suitable_scale(backbone.network.image_size)
    for word in ('gridded', 'hidden', 'inpainting'):
        method = method.replace(f'{word}4-', f'{word}{backbone.cell}-')
    return method.replace('-sr4', f'-sr{scale}')


def adapt(config: Config, backbone: BenchmarkBackbone) -> None:
    """Give a config of configs/small another backbone, and images of its size."""
    _MODELS[config.model.type](config.model, backbone)
    keys = config.optim_wrapper.paramwise_cfg.custom_keys
    keys.relative_position_bias_table = dict(decay_mult=0.0)
    if backbone.patch_size is None:
        config.default_hooks.pop('position_embedding', None)
        keys.pos_embed = dict(decay_mult=0.0)
    if not backbone.layer_depth and config.optim_wrapper.get('constructor'):
        config.optim_wrapper.pop('constructor')
        config.optim_wrapper.paramwise_cfg.pop('layer_decay_rate')
    for loader in (config.train_dataloader, config.get('test_dataloader')):
        if loader is not None:
            dataset = loader.dataset
            dataset.pipeline = [t for old in dataset.pipeline for t in _transforms(old, backbone)]


def _energy(model: dict, backbone: BenchmarkBackbone) -> None:
    model.backbone = copy.deepcopy(backbone.network.config)
    model.head.in_channels = backbone.network.in_channels


def _sorting(model: dict, backbone: BenchmarkBackbone) -> None:
    _energy(model, backbone)
    model.edge_widths = _edge_widths(backbone)


def _inpainting(model: dict, backbone: BenchmarkBackbone) -> None:
    fitting = inpainting_model(backbone.network)
    model.backbone = fitting['backbone']
    model.head.update(fitting['head'] | _decoder(backbone, 'head'))
    if model.get('target_generator'):
        model.target_generator = fitting['target_generator']
    else:
        model.head.extra_values = 0


def _auto_encoder(model: dict, backbone: BenchmarkBackbone) -> None:
    model.backbone = _vit(backbone, out_type='raw')
    patches = (backbone.network.image_size // backbone.patch_size) ** 2
    decoder = dict(embed_dim=backbone.network.in_channels, **_decoder(backbone, 'neck'))
    # of mae-shallow half of the others' layers
    decoder['decoder_depth'] = decoder['decoder_depth'] * model.neck.decoder_depth // SMALL_LAYERS
    if model.type == 'SortingAutoEncoder':
        model.neck.update(num_positions=patches, **decoder)
        model.edge_widths = _edge_widths(backbone)
        return
    model.neck.update(num_patches=patches, patch_size=backbone.patch_size, **decoder)
    model.head.patch_size = backbone.patch_size
    if model.type == 'MAE':
        model.backbone.update(type='MAEViT')


def _beit(model: dict, backbone: BenchmarkBackbone) -> None:
    model.backbone.update(_vit(backbone))
    model.backbone.type = 'BEiTPretrainViT'
    model.head.embed_dims = backbone.network.in_channels


def _simmim(model: dict, backbone: BenchmarkBackbone) -> None:
    swin = backbone.config
    patch, arch = swin.get('patch_size', 4), swin['arch']
    last = len(arch['depths']) - 1
    model.backbone = dict(
        type='SimMIMSwinTransformer',
        arch=arch,
        img_size=backbone.network.image_size,
        patch_cfg=dict(kernel_size=patch, stride=patch),
        out_indices=(last,),
        stage_cfgs=dict(block_cfgs=dict(window_size=swin.get('window_size', 7))),
        drop_path_rate=0.0,
    )
    model.neck.update(in_channels=backbone.network.in_channels, encoder_stride=patch * 2**last)
    model.head.patch_size = patch


def _classifier(model: dict, backbone: BenchmarkBackbone) -> None:
    network = copy.deepcopy(backbone.network.config)
    inner = network.get('backbone', network)
    if 'drop_path_rate' in inner:
        inner['drop_path_rate'] = DROP_PATH
    if model.backbone.type == 'BEiTViT':
        model.backbone.update(_vit(backbone), type='BEiTViT', drop_path_rate=DROP_PATH)
    else:
        model.backbone = network
        model.pop('neck', None)
        if not backbone.network.pooled:
            model.neck = dict(type='PooledFeatures', channels=backbone.network.in_channels)
    model.head.in_channels = backbone.network.in_channels


_MODELS = {
    'EnergyRestorationAlgorithm': _energy,
    'EnergySortingAlgorithm': _sorting,
    'EnergyInpaintingAlgorithm': _inpainting,
    'RestorationAutoEncoder': _auto_encoder,
    'SortingAutoEncoder': _auto_encoder,
    'MAE': _auto_encoder,
    'BEiT': _beit,
    'SimMIM': _simmim,
    'ImageClassifier': _classifier,
}


def _vit(backbone: BenchmarkBackbone, **output: str) -> dict:
    """The ViT's config with another output; without one that of its class."""
    kept = ('type', 'arch', 'img_size', 'patch_size', 'norm_cfg', 'drop_path_rate')
    return {k: v for k, v in backbone.config.items() if k in kept} | output


def _decoder(backbone: BenchmarkBackbone, part: str) -> dict:
    """The size of what is left behind after pretraining; ours for the head of inpainting."""
    large = backbone.network.image_size >= LARGE_IMAGE  # then MAE's own, for both
    channels, layers, heads = (512, 8, 16) if large else (128, SMALL_LAYERS, 4)
    if part == 'head':
        return dict(embed_dims=channels, num_layers=layers // 2, num_heads=heads)
    return dict(decoder_embed_dim=channels, decoder_depth=layers, decoder_num_heads=heads)


def _edge_widths(backbone: BenchmarkBackbone) -> tuple[int, int]:
    return (1, 2) if backbone.patch_size >= 8 else (0, 1)


def _transforms(transform: dict, backbone: BenchmarkBackbone) -> list[dict]:
    """What takes the place of a transform of configs/small."""
    size, cell, new = backbone.network.image_size, backbone.cell, copy.deepcopy(transform)
    match transform['type']:
        case 'GriddedMask':
            new.patch_size = cell
        case 'SuperResolution':
            new.scale = suitable_scale(size)
        case 'MixedCorruption':
            new.corruptions = [_transforms(c, backbone)[0] for c in transform.corruptions]
        case 'RandomResizedCropAndInterpolationWithTwoPic':
            new.update(size=size, second_size=8 * size // cell)  # a token of its tokenizer: 8²
        case 'BEiTMaskGenerator':
            side = size // cell
            new.update(
                input_size=(side, side),
                num_masking_patches=round(0.38 * side**2),
                min_num_patches=max(1, min(16, side**2 // 12)),
            )
        case 'SimMIMMaskGenerator':
            patch = backbone.config.get('patch_size', 4)
            sides = [n for n in range(patch, max(patch, size // 6) + 1, patch) if size % n == 0]
            new.update(input_size=size, mask_patch_size=sides[-1], model_patch_size=patch)
        case 'RandomCrop' if size != SMALL_SIZE:
            if new.get('pad_if_needed'):
                return []
            crop = dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.2, 1.0))
            return [dict(**crop, backend='pillow', interpolation='bicubic')]
        case 'Resize' if size != SMALL_SIZE:
            edge = dict(type='ResizeEdge', scale=edge_before_crop(size), edge='short')
            edge.update(backend='pillow', interpolation='bicubic')
            return [edge, dict(type='CenterCrop', crop_size=size)]
    return [new]


@MODELS.register_module()
class PooledFeatures(nn.Module):
    """Average a backbone's last feature map of any layout, as the energy head does.

    Args:
        channels: D.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(self, features: Tensor | Sequence[Tensor]) -> tuple[Tensor]:
        """Features, see :func:`mmebm.models.energy_head.pool_features`, → ``((B, D),)``."""
        return (pool_features(features, self.channels),)
