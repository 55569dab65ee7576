"""A short run of a sorting config with validation, then sort.py on its checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

import mmebm  # noqa: F401
from tests.tools import load_tool

ROOT = Path(__file__).parent.parent.parent
CONFIG = next((ROOT / 'configs/small').glob('energy-sorting_*.py'))

pytestmark = pytest.mark.slow  # they share a checkpoint that is trained first


@pytest.fixture(scope='module')
def sort():
    return load_tool('visualization/sort')


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(0)
    for name in ('train/a.png', 'train/b.png', 'test/c.png', 'test/nested/d.jpg'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope='module')
def checkpoint(photos, tmp_path_factory):
    config = Config.fromfile(CONFIG)
    config.model.backbone.arch = dict(
        embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16
    )
    config.model.head.in_channels = 16
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(photos)
    config.train_cfg.max_epochs = 1
    config.work_dir = str(tmp_path_factory.mktemp('work'))
    config.visualizer.name = 'test_sort'
    runner = Runner.from_cfg(config)
    runner.train()
    scalars = runner.message_hub.log_scalars
    assert scalars['val/sorting/chance'].current() == 1 / 64
    assert 0 <= scalars['val/sorting/accuracy'].current() <= 1
    assert list(Path(config.work_dir).glob('best_sorting_accuracy_epoch_1.pth'))
    assert list(Path(config.work_dir).rglob('restoration_1.png'))
    return Path(config.work_dir) / 'epoch_1.pth'


def test_sorts_a_folder_with_a_broken_file(sort, checkpoint, photos, tmp_path, capsys):
    (photos / 'test/broken.jpg').write_text('not an image')
    argv = [str(checkpoint), str(photos / 'test'), '--out-dir', str(tmp_path), '--num-steps', '3']
    assert sort.main(argv) == 0
    captured = capsys.readouterr()
    assert '1 of 3 images could not be read' in captured.err
    assert 'chance 1.6%' in captured.out
    assert 'step 3' in captured.out
    assert 'step 4' not in captured.out
    for name in ('c.png', 'nested/d.jpg'):
        assert np.asarray(Image.open(tmp_path / f'{name}.sorted.png')).std() > 10


def test_refuses_other_checkpoints_and_arguments(sort, checkpoint, photos, tmp_path, capsys):
    state = torch.load(checkpoint, weights_only=False)
    state['meta']['cfg'] = "model = dict(type='EnergyRestorationAlgorithm')"
    torch.save(dict(meta=state['meta'], state_dict=state['state_dict']), tmp_path / 'other.pth')
    assert sort.main([str(tmp_path / 'other.pth'), str(photos)]) == 2
    error = capsys.readouterr().err
    assert 'EnergySortingAlgorithm' in error
    assert 'EnergyRestorationAlgorithm' in error
    assert sort.main([str(checkpoint), str(tmp_path / 'none')]) == 2
    assert 'none' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        sort.main([str(checkpoint), str(photos), '--num-steps', '-1'])
