"""Metrics of each corruption of a mixture, on a model that does nothing."""

import numpy as np
import pytest
from mmpretrain.structures import DataSample
from PIL import Image

from mmebm.evaluation import loaders_per_corruption, metrics_per_corruption

MIXTURE = dict(
    type='MixedCorruption',
    corruptions=[dict(type='GriddedMask', patch_size=8, ratio=1), dict(type='Colorization')],
)


def loader_config(folder, corruption):
    pipeline = [
        dict(type='LoadImageFromFile'),
        corruption,
        dict(type='PackInputs', meta_keys=('sample_idx', 'corruption')),
    ]
    return dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='ImageFolder', data_root=str(folder), test_mode=True, pipeline=pipeline),
    )


@pytest.fixture
def folder(tmp_path):
    for i in range(3):  # grey, so that removing the colour changes nothing
        Image.fromarray(np.full((16, 16, 3), 50 * (i + 1), np.uint8)).save(tmp_path / f'{i}.png')
    return tmp_path


class Unchanged:
    """Returns the corrupted images as restored."""

    def val_step(self, batch):
        corrupted, clean = batch['inputs']
        return [
            DataSample(clean=c, corrupted=x, restored=x, metainfo=dict(corruption=None))
            for x, c in zip(corrupted, clean, strict=True)
        ]


def test_one_loader_and_one_row_for_each_corruption(folder):
    config = loader_config(folder, MIXTURE)
    loaders = loaders_per_corruption(config)
    assert [len(loader.dataset) for loader in loaders.values()] == [3, 3]
    assert config == loader_config(folder, MIXTURE)
    metrics = metrics_per_corruption(Unchanged(), loaders)
    assert list(metrics) == ['GriddedMask', 'Colorization']
    assert metrics['Colorization']['restoration/psnr'] == np.inf
    # everything is masked with the black fill
    masked = metrics['GriddedMask']
    assert masked['restoration/psnr'] == masked['restoration/psnr_corrupted'] < 20


def test_a_pipeline_without_mixture_is_refused(folder):
    with pytest.raises(ValueError, match='MixedCorruption, got LoadImageFromFile, Colorization'):
        loaders_per_corruption(loader_config(folder, dict(type='Colorization')))
