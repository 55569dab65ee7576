"""The kNN tool on checkpoints of each method, and what the training tool says without one."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmebm.apis import FeatureExtractor, evaluate_knn
from tests.pretrained import ARCH, METHODS, build_pretraining, save_pretrained
from tests.tools import load_tool

ROOT = Path(__file__).parents[2]
FINETUNE = ROOT / 'configs/small/finetune_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'
NORMALISATION = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)


knn = load_tool('benchmarks/knn')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Red and blue noise, 16 training and 4 validation images of 40 × 32 pixels each."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for part, count in (('train', 16), ('val', 4)):
        for name, channel in (('red', 0), ('blue', 2)):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (32, 40, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / part / name / f'{i}.png')
    return folder


def save_with_config(method, path):
    """A checkpoint that holds the config of its run, as MMEngine writes it."""
    save_pretrained(method, path)
    size = dict(arch=ARCH, img_size=32, patch_size=8)
    kinds = {
        'energy': ('EnergyRestorationAlgorithm', 'VisionTransformer', 'avg_featmap'),
        'mae': ('MAE', 'MAEViT', 'raw'),
        'beit': ('BEiT', 'BEiTPretrainViT', 'raw'),
    }
    model, backbone, out_type = kinds[method]
    backbone = dict(type=backbone, out_type=out_type, final_norm=method != 'energy', **size)
    model = dict(type=model, backbone=backbone, data_preprocessor=NORMALISATION)
    if method == 'energy':
        model['head'] = dict(type='EnergyHead', in_channels=16)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta']['cfg'] = Config(dict(model=model)).pretty_text
    torch.save(checkpoint, path)


def rows(text):
    """The table's cells: weights, k, top-1, top-5, seconds."""
    cells = (re.split(r' {2,}', line) for line in text.split('───\n')[-1].splitlines())
    return [row for row in cells if len(row) == 5]


@pytest.mark.slow
@pytest.mark.parametrize('method', [m for m in METHODS if m != 'bare'])
def test_a_checkpoint_alone_is_enough(method, images, tmp_path, capsys):
    save_with_config(method, tmp_path / 'a.pth')
    argv = [str(tmp_path / 'a.pth'), str(images), '--random', '--workers', '0', '--k', '5', '1']
    assert knn.main([*argv, '--device', 'cpu']) == 0
    out = capsys.readouterr().out
    found = rows(out)
    assert [(row[0], row[1]) for row in found] == [
        ('a.pth', '1'),
        ('a.pth', '5'),
        ('random (seed 0)', '1'),
        ('random (seed 0)', '5'),
    ]
    assert all(0 <= float(row[2]) <= float(row[3]) == 100 for row in found)  # top-5 of two classes
    assert float(found[2][2]) == 100  # red and blue, told apart even by random weights
    assert 'tensors (100.0 %)' in out
    assert '32 labelled images, 8 queries, 2 classes (chance: 50.0 %)' in out


@pytest.mark.parametrize('method', [m for m in METHODS if m != 'bare'])
def test_features_are_the_pooled_output_of_the_pretrained_backbone(method, tmp_path):
    save_with_config(method, tmp_path / 'a.pth')
    network = FeatureExtractor(None, tmp_path / 'a.pth', 'cpu')
    assert network.image_size == 32
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)  # BGR, as OpenCV reads
    features = network(dict(inputs=images))
    backbone = build_pretraining(method).backbone
    mean, std = (torch.tensor(NORMALISATION[key]).view(3, 1, 1) for key in ('mean', 'std'))
    x = (images.float().flip(1) - mean) / std
    with torch.no_grad():
        if method == 'energy':
            expected = backbone(x)[-1]
        else:
            expected = backbone(x, mask=None)[-1][:, 1:].mean(1)  # not the class token
    torch.testing.assert_close(features, expected)
    assert not torch.equal(features[0], features[1])


def test_a_config_gives_the_network_of_a_checkpoint_without_one(images, tmp_path, capsys):
    config = Config.fromfile(FINETUNE)
    config.model.backbone.update(arch=ARCH, patch_size=8)
    config.model.head.in_channels = 16
    config.dump(tmp_path / 'config.py')
    save_pretrained('mae', tmp_path / 'a.pth')
    paths = [str(tmp_path / 'config.py'), str(tmp_path / 'a.pth'), str(images)]
    assert knn.main([*paths, '--workers', '0', '--k', '3', '--half', '--max-images', '8']) == 0
    out = capsys.readouterr().out
    assert 'filled 28 of 30' in out
    assert '8 labelled images, 8 queries' in out
    assert [row[:2] for row in rows(out)] == [['a.pth', '3']]


@pytest.mark.slow
def test_the_same_from_python(images, tmp_path):
    save_with_config('energy', tmp_path / 'a.pth')
    network = FeatureExtractor(None, tmp_path / 'a.pth', 'cpu')
    seen = {}
    result = evaluate_knn(
        network, images / 'train', images / 'val', k=[5, 1], workers=0, batch_size=3,
        progress=lambda what, done, total: seen.setdefault(what, []).append((done, total)),
    )  # fmt: skip
    assert list(result.accuracies) == [1, 5]
    assert result.accuracies[1] == (1.0, 1.0)
    assert result.classes == ['blue', 'red']
    assert seen == {
        'features of train': [(n, 32) for n in (*range(0, 32, 3), 32)],
        'features of val': [(0, 8), (3, 8), (6, 8), (8, 8)],
        'neighbours': [(8, 8)],
    }
    for options, message in (
        (dict(k=0), 'k must be an integer ≥ 1, got 0'),
        (dict(k=[]), 'k must be at least one number'),
        (dict(temperature=0), 'temperature must be a finite number > 0'),
        (dict(max_images=0), 'max_images must be an integer ≥ 1'),
        (dict(k=33), 'k = 33 is more than the 32 labelled images'),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_knn(network, images / 'train', images / 'val', workers=0, **options)
    with pytest.raises(FileNotFoundError, match=r'no such folder: .*nowhere'):
        evaluate_knn(network, images / 'nowhere', images / 'val')


def refusal(capsys, *argv):
    assert knn.main([str(a) for a in argv] + ['--workers', '0']) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_what_does_not_fit_is_refused(images, tmp_path, capsys):
    save_pretrained('energy', tmp_path / 'bare.pth')
    assert 'holds no config' in refusal(capsys, tmp_path / 'bare.pth', images)
    message = refusal(capsys, FINETUNE, tmp_path / 'bare.pth', images)
    assert 'another network than VisionTransformer' in message
    assert 'does not exist' in refusal(capsys, FINETUNE, tmp_path / 'nowhere.pth', images)
    assert 'no sub-folder train' in refusal(capsys, FINETUNE, tmp_path)
    assert 'more than the 32' in refusal(capsys, FINETUNE, images, '--k', 33)
    (tmp_path / 'train' / 'red').mkdir(parents=True)
    (tmp_path / 'test' / 'green').mkdir(parents=True)
    for name in ('train/red', 'test/green'):
        Image.new('RGB', (8, 8)).save(tmp_path / name / 'a.png')
    message = refusal(capsys, FINETUNE, tmp_path, '--k', 1)
    assert 'same class sub-folders' in message
    assert 'green, red' in message


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['a.pth'], 'got 1 paths'),
        (['a.pth', 'b.pth', 'data'], 'must be a config'),
        (['a.pth', 'data', '--k', '0'], '--k must be ≥ 1, got 0'),
        (['a.pth', 'data', '--temperature', '0'], '--temperature must be > 0, got 0.0'),
        (['a.pth', 'data', '--max-images', '0'], '--max-images must be ≥ 1, got 0'),
    ],
)
def test_impossible_options_are_refused(argv, message, capsys):
    with pytest.raises(SystemExit):
        knn.main(argv)
    assert message in capsys.readouterr().err


def test_training_without_the_checkpoint_is_refused_at_once(tmp_path, capsys):
    train = load_tool('train')
    with pytest.raises(SystemExit) as raised:
        train.main([str(FINETUNE), '--work-dir', str(tmp_path)])
    assert raised.value.code == 2
    assert 'no checkpoint is given: set the environment variable PRETRAINED=FILE' in (
        capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())
