"""The smallest runs that have all parts of a real one, and what they leave."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .processes import ROOT

EPOCHS = 4
ITERATIONS = 3  # per epoch

VIT = dict(
    type='VisionTransformer',
    arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
    img_size=32,
    patch_size=8,
    out_type='avg_featmap',
    final_norm=False,
    drop_path_rate=0.2,
)
NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
CORRUPTIONS = [
    dict(type='GriddedMask', patch_size=8, ratio=0.5),
    dict(type='SuperResolution', scale=4),
    dict(type='GaussianNoise', gamma_range=(0.0, 1.0)),
    dict(type='Colorization'),
]
PACK = dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption'))


def write_images(folder: Path, number: int, side: int = 40, seed: int = 0) -> list[Path]:
    """Smooth random pictures, ``0000.png`` to ..."""
    folder.mkdir(parents=True)
    rng, paths = np.random.default_rng(seed), []
    for index in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        paths.append(folder / f'{index:04d}.png')
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def loader(folder: Path, pipeline: list, train: bool, **options) -> dict:
    return dict(
        batch_size=4,
        num_workers=2 if train else 0,
        persistent_workers=train,
        drop_last=train,
        sampler=dict(type='DefaultSampler', shuffle=train),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='ImageFolder',
            data_root=str(folder),
            pipeline=pipeline,
            test_mode=not train,
            **options,
        ),
    )


def schedule(by_epoch: int = EPOCHS) -> dict:
    return dict(
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=[
            dict(
                type='CosineAnnealingLR', T_max=by_epoch, by_epoch=True, convert_to_iter_based=True
            )
        ],
        train_cfg=dict(by_epoch=True, max_epochs=by_epoch, val_interval=1),
        val_cfg=dict(),
        default_hooks=dict(logger=dict(interval=1)),
    )


def mixed(folder: Path, held_out: Path, epochs: int = EPOCHS) -> dict:
    """Our method on all corruptions."""
    load = [dict(type='LoadImageFromFile')]
    crop = dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.25, 1.0))
    corruption = dict(type='MixedCorruption', corruptions=CORRUPTIONS)
    validate = [*load, dict(type='ResizeEdge', scale=32), dict(corruption, seed=0), PACK]
    held_out, metrics = loader(held_out, validate, train=False), [dict(type='RestorationMetric')]
    metrics += [dict(type='EnergyMetric')]
    return dict(
        model=dict(
            type='EnergyRestorationAlgorithm',
            backbone=VIT,
            head=dict(type='EnergyHead', in_channels=32),
            num_steps=2,
            data_preprocessor=dict(type='SelfSupDataPreprocessor', **NORM),
        ),
        train_dataloader=loader(folder, [*load, crop, corruption, PACK], train=True),
        val_dataloader=held_out,
        val_evaluator=metrics,
        test_dataloader=held_out,
        test_evaluator=metrics,
        test_cfg=dict(),
        **schedule(epochs),
    )


def finetuning(folder: Path, held_out: Path, epochs: int = EPOCHS) -> dict:
    """A classifier on a pretrained backbone, which PRETRAINED names."""
    load = [dict(type='LoadImageFromFile')]
    crop = dict(type='RandomResizedCrop', scale=32)
    pack = dict(type='PackInputs')
    validate = [*load, dict(type='ResizeEdge', scale=32), pack]
    head = dict(
        type='LinearClsHead',
        num_classes=2,
        in_channels=32,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    )
    config = dict(
        model=dict(
            type='ImageClassifier',
            backbone=VIT,
            head=head,
            data_preprocessor=dict(num_classes=2, **NORM),
            train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]),
        ),
        train_dataloader=loader(folder, [*load, crop, pack], train=True, with_label=True),
        val_dataloader=loader(held_out, validate, train=False, with_label=True),
        val_evaluator=[dict(type='Accuracy', topk=(1,))],
        **schedule(epochs),
    )
    config['default_hooks']['checkpoint'] = dict(save_best='accuracy/top1', rule='greater')
    return config


def write_config(path: Path, config: dict, base: str = 'default_runtime') -> Path:
    """A text config on top of ours."""
    base = ROOT / 'configs/_base_' / f'{base}.py'
    lines = [f'{name} = {value!r}\n' for name, value in config.items()]
    path.write_text(f'_base_ = {str(base)!r}\n' + ''.join(lines))
    return path


def final(work_dir: Path, epochs: int = EPOCHS) -> dict:
    """What a run has learnt and logged: tensors by name, losses and metrics by iteration."""
    path = work_dir / f'epoch_{epochs}.pth'
    checkpoint = torch.load(path, weights_only=False)
    found = {f'weights {k}': v for k, v in checkpoint['state_dict'].items()}
    for parameter, state in checkpoint['optimizer']['state'].items():
        found |= {f'optimizer {parameter} {k}': v for k, v in state.items()}
    for best in work_dir.glob('best_*.pth'):
        state = torch.load(best, weights_only=False)['state_dict']
        found |= {f'{best.name} {k}': v for k, v in state.items()}
    ignored = ('time', 'data_time', 'memory')  # of the machine
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            values = json.loads(line)  # the last word on each iteration counts
            step = f'iteration {values["iter"]}' if 'loss' in values else f'step {values["step"]}'
            for name, value in values.items():
                if name not in ignored:
                    found[f'{step} {name}'] = torch.tensor(value)
    return found


def assert_identical(expected: dict, got: dict) -> None:
    """Compare two runs, bit for bit."""
    assert expected.keys() == got.keys(), expected.keys() ^ got.keys()
    differing = [
        name
        for name, value in expected.items()
        if not torch.equal(torch.nan_to_num(value), torch.nan_to_num(got[name]))
    ]
    assert not differing, differing
