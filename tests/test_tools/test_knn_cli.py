"""Features of checkpoints of each method, and their accuracy as nearest neighbours."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmebm.evaluation.features import FeatureExtractor
from tests.backbones import NORMALISATION
from tests.pretrained import ARCH, METHODS, build_pretraining, pretraining_config, save_pretrained
from tests.tools import exit_code, load_tool, write_noise
from tests.zero_head import CONVNEXT, SIZE, save_network

ROOT = Path(__file__).parents[2]
FINETUNE = ROOT / 'configs/small/finetune_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'
knn = load_tool('benchmarks/knn')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Red and blue noise, 16 training and 4 validation images of 40 × 32 pixels each."""
    folder = tmp_path_factory.mktemp('images')
    classes = dict(red=((100, 0, 0), (200, 100, 100)), blue=((0, 0, 100), (100, 100, 200)))
    for seed, (part, count) in enumerate((('train', 16), ('val', 4))):
        write_noise(folder / part, classes, count, (40, 32), seed)
    return folder


def save_with_config(method, path):
    """A checkpoint that holds the config of its run, as MMEngine writes it."""
    save_pretrained(method, path)
    pixels = dict(NORMALISATION, type='SelfSupDataPreprocessor')
    model = dict(pretraining_config(method), data_preprocessor=pixels)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta']['cfg'] = Config(dict(model=model)).pretty_text
    torch.save(checkpoint, path)


@pytest.mark.parametrize('method', [m for m in METHODS if m != 'bare'])
def test_features_are_the_pooled_output_of_the_pretrained_backbone(method, tmp_path):
    save_with_config(method, tmp_path / 'a.pth')
    network = FeatureExtractor(None, tmp_path / 'a.pth', 'cpu')
    assert network.image_size == (32, 32)
    assert network.filled.share == 1
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


def test_a_network_of_any_size_gets_images_as_in_training(tmp_path):
    save_network(tmp_path / 'a.pth', backbone=CONVNEXT)
    assert FeatureExtractor(None, tmp_path / 'a.pth', 'cpu').image_size == (SIZE, SIZE)


def test_a_checkpoint_alone_is_enough(images, tmp_path, capsys):
    save_with_config('energy', tmp_path / 'a.pth')
    argv = [str(tmp_path / 'a.pth'), str(images), '--random', '--workers', '0', '--k', '5', '1']
    assert knn.main([*argv, '--device', 'cpu']) == 0
    out = capsys.readouterr().out
    for name in ('a.pth', 'random (seed 0)'):
        for k in (1, 5):  # red and blue, told apart even by random weights; top-5 of two classes
            assert f'{name}  k {k}  top-1 100.00%  top-5 100.00%' in out
    assert 'tensors (100.0 %)' in out
    assert '32 labelled images, 8 queries, 2 classes' in out


def test_a_config_gives_the_network_of_a_checkpoint_without_one(images, tmp_path, capsys):
    config = Config.fromfile(FINETUNE)
    config.model.backbone.update(arch=ARCH, patch_size=8)
    config.model.head.in_channels = 16
    config.dump(tmp_path / 'config.py')
    save_pretrained('mae', tmp_path / 'a.pth')
    paths = [str(tmp_path / 'config.py'), str(tmp_path / 'a.pth'), str(images)]
    assert knn.main([*paths, '--workers', '0', '--k', '3', '--max-images', '8']) == 0
    out = capsys.readouterr().out
    assert 'filled 28 of 30' in out
    assert '8 labelled images, 8 queries' in out


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([FINETUNE, 'BARE', 'IMAGES'], 'another network than VisionTransformer'),
        ([FINETUNE, 'IMAGES', '--k', 33], 'k must lie in 1..N = 32, got 33'),
        ([FINETUNE, 'IMAGES', '--temperature', 0], 'temperature must be > 0, got 0.0'),
        ([FINETUNE, 'OTHER', '--k', 1], 'has green, red'),
    ],
)
def test_what_does_not_fit_is_refused(argv, message, images, tmp_path, capsys):
    save_pretrained('energy', tmp_path / 'bare.pth')
    for name in ('train/red', 'test/green'):
        (tmp_path / 'other' / name).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp_path / 'other' / name / 'a.png')
    places = dict(BARE=tmp_path / 'bare.pth', IMAGES=images)
    places['OTHER'] = tmp_path / 'other'
    argv = [str(places.get(arg, arg)) for arg in argv]
    assert exit_code(knn.main, [*argv, '--workers', '0']) == 2
    assert message in capsys.readouterr().err
