"""A short run on real images sorts held-out ones, through the whole runner.

Skipped without the CIFAR-10 subset. Results and times: docs/step_size.md.
"""

import tarfile
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

import mmebm  # noqa: F401

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT.parent / 'shared/data/cifar10_subset.tar.gz'
CONFIG = next((ROOT / 'configs/small').glob('energy-sorting_*.py'))


@pytest.mark.skipif(not ARCHIVE.is_file(), reason=f'{ARCHIVE} is not there')
def test_twice_chance_on_held_out_images(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:  # in order, because going back means unpacking from the start
            kept = '02468' if '/train/' in member.name else '0'
            if member.name.removesuffix('.jpg').endswith(tuple(kept)):
                archive.extract(member, tmp_path, filter='data')
    config = Config.fromfile(CONFIG)
    config.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(
                    arch=dict(embed_dims=64, num_layers=2, num_heads=4, feedforward_channels=256),
                    # Eight strips of 4 × 32 pixels whose edges show: the easiest of sorting, so
                    # that 390 iterations are enough.
                    patch_size=(4, 32),
                ),
                head=dict(in_channels=64),
                num_steps=1,
                step_size=100.0,
                edge_widths=(0,),
                patch_drop_ratio=0.0,
            ),
            optim_wrapper=dict(
                type='OptimWrapper', optimizer=dict(lr=5e-3), clip_grad=dict(max_norm=1.0)
            ),
            train_dataloader=dict(
                batch_size=64,
                num_workers=1,
                # Without the random crop, which hides how far from the border a strip is.
                dataset=dict(
                    data_root=str(tmp_path / 'cifar10'),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='RandomFlip', prob=0.5),
                        config.pack,
                    ],
                ),
            ),
            val_dataloader=dict(
                num_workers=0,
                persistent_workers=False,
                dataset=dict(data_root=str(tmp_path / 'cifar10')),
            ),
            train_cfg=dict(max_epochs=2, val_interval=2),
            work_dir=str(tmp_path / 'work'),
        )
    )
    config.param_scheduler = [
        dict(type='LinearLR', start_factor=0.05, begin=0, end=20, by_epoch=False),
        dict(type='CosineAnnealingLR', T_max=2, convert_to_iter_based=True),
    ]
    config.visualizer.name = 'test_sorting_learns'
    runner = Runner.from_cfg(config)
    runner.train()
    figures = {
        name: runner.message_hub.get_scalar(f'val/sorting/{name}').current()
        for name in ('accuracy', 'accuracy_shuffled', 'chance')
    }
    print(figures)
    assert figures['chance'] == 1 / 8
    assert figures['accuracy_shuffled'] == pytest.approx(1 / 8, abs=0.02)
    assert figures['accuracy'] > 2 / 8
