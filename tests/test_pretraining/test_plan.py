"""Which images are held out, how long a run is, what is tried, and what the config says."""

import os
from pathlib import Path

import cv2
import mmengine
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmpretrain.registry import PARAM_SCHEDULERS, TRANSFORMS, VISBACKENDS
from torch import nn

from mmebm.autograd import differentiate
from mmebm.backbones.probe import trained_image_size
from mmebm.models.patch_energy_head import pair
from mmebm.pretraining import run
from mmebm.pretraining.images import Images, split_images
from mmebm.pretraining.network import Network, config_of, find_network
from mmebm.pretraining.options import CORRUPTIONS, TRACKERS, PretrainOptions
from mmebm.pretraining.plan import config_of as full_config
from mmebm.pretraining.plan import corruption_of, inpainting_model, length_of
from mmebm.pretraining.trial import Speed
from tests.backbones import build_algorithm
from tests.tools import write_images

CONFIGS = Path(__file__).parents[2] / 'configs'
SCHEDULES = [*CONFIGS.glob('_base_/schedules/*.py'), *CONFIGS.glob('quickstart/*.py')]


def options_of(backbone='b', **options):
    given = dict(data=['a'], out='o', backbone=backbone, batch_size=4, learning_rate=1.0, workers=0)
    return PretrainOptions(**given | dict(precision='float32', image_size=32) | options)


class TestImages:
    def test_held_out_images_are_not_trained_on_and_drawn_by_the_seed(self, photos):
        first, again, other = (split_images([photos], 20, seed) for seed in (0, 0, 1))
        assert first == again
        assert set(first.held_out) != set(other.held_out)
        assert not set(first.train) & set(first.held_out)
        assert len(first.train) == 40
        assert len(first.held_out) == 20
        assert all((first.root / name).is_file() for name in first.train + first.held_out)
        assert first.classes == ['dark', 'light']
        assert [first.classes[i] for i in first.labels] == [n.split('/')[0] for n in first.held_out]

    def test_several_sources(self, photos, tmp_path):
        file = tmp_path / 'list.txt'
        file.write_text('\n'.join(map(str, (photos / 'dark').iterdir())))
        both = split_images([file, photos / 'dark', photos / 'light'], None, 0)
        assert len(both.train) + len(both.held_out) == 60
        with pytest.raises(ValueError, match='is a single image'):
            split_images([photos / 'dark/0 of 30.png'], None, 0)
        with pytest.raises(ValueError, match='60 of 60 images cannot be held out'):
            split_images([photos], 60, 0)

    def test_enough_of_each_class_are_held_out(self, tmp_path):
        for i in range(180):
            path = tmp_path / f'class {min(i // 5, 6)}' / f'{i}.png'  # six of 5, one of 150
            path.parent.mkdir(exist_ok=True)
            path.touch()
        found = split_images([tmp_path], None, 0)
        assert len(found.held_out) == 35
        assert min(np.bincount(found.labels)) == 5
        six = ', '.join(f'class {i}' for i in range(6))
        assert found.notes == [f'7 classes: {six}, ...']
        found = split_images([tmp_path], 34, 0)
        assert (len(found.held_out), found.classes) == (34, [])
        assert 'no kNN accuracy' in found.notes[1]

    def test_names_that_a_list_cannot_hold(self, tmp_path):
        for name in (b'1.png', b'2.png', b'3.png', b'a\nb.png', b'\xff.png'):
            Path(os.fsdecode(bytes(tmp_path) + b'/' + name)).touch()
        found = split_images([tmp_path], 1, 0)
        assert sorted(found.train + found.held_out) == ['1.png', '2.png', '3.png']
        assert found.notes[0].startswith('2 ')


@pytest.mark.parametrize('count', [2, 3])
def test_few_images(count, vit, tmp_path, monkeypatch):
    """A single one is refused, in test_run.py."""
    monkeypatch.setattr(run, 'TRIAL_SECONDS', 0.0)
    images = split_images([write_images(tmp_path / 'few', count)[0].parent], None, 0)
    options = options_of(vit, batch_size=None, learning_rate=None)
    chosen, _ = run.choose(options, images, find_network(options), 1)
    assert chosen.batch_size == count - 1


@pytest.mark.parametrize('size', [(32, 48), (48, 32), (160, 160)])
def test_images_of_one_size_keep_their_shape(photos, vit, size):
    options = options_of(vit, image_size=size)
    images, length = split_images([photos], None, 0), length_of(Speed(1, 1), 1)
    config = full_config(images, find_network(options), options, length)
    assert trained_image_size(config) == size
    image = np.zeros((100, 200, 3), np.uint8)  # a circle stays one
    cv2.circle(image, (100, 50), 20, (255,) * 3, -1)
    steps = [TRANSFORMS.build(step) for step in config.test_dataloader.dataset.pipeline[1:-2]]
    white = Compose(steps)(dict(img=image, img_shape=(100, 200)))['img'][..., 0] > 127
    assert white.shape == size
    assert abs(white.any(0).sum() - white.any(1).sum()) <= 1
    crop = config.train_dataloader.dataset.pipeline[1]
    low, high = crop.get('aspect_ratio_range', (3 / 4, 4 / 3))
    assert low * high == pytest.approx((size[1] / size[0]) ** 2)
    network = find_network(options_of(vit, image_size=size, energy='inpainting'))
    assert inpainting_model(network)['head'].grid == (size[0] // 8, size[1] // 8)


class TestLength:
    @pytest.mark.parametrize('hours', [1 / 60, 0.1, 2, 100])
    @pytest.mark.parametrize('iteration', [0.01, 0.3, 4.0])
    @pytest.mark.parametrize('validation', [0.05, 3.0])
    def test_hours_end_on_time(self, hours, iteration, validation):
        """By a clock that only these durations move."""
        speed = Speed(iteration, validation, start=0.1 * 60)
        length = length_of(speed, seconds=hours * 3600)
        taken = speed.start + length.iterations * iteration
        taken += -(-length.rounds // length.validation_interval) * validation
        step = length.per_round * iteration + validation  # nothing shorter can be left out
        assert abs(taken - hours * 3600) <= max(0.05 * hours * 3600, step)
        # torchrun kills a process 30 s after it told it to stop
        assert length.per_round * iteration <= 20

    def test_iterations_are_kept(self):
        for iterations in (*range(1, 201), 4000, 12_000):
            length = length_of(Speed(0.2, 1.0), iterations=iterations)
            assert length.iterations == iterations
            assert length.save_interval <= length.rounds
        prime = length_of(Speed(0.2, 1.0), iterations=4001)
        assert abs(prime.iterations - 4001) <= 0.03 * 4001


class Greedy(nn.Module):
    """Asks for more memory than an address space has, while it trains on many images."""

    def __init__(self, most):
        super().__init__()
        self.most, self.conv = most, nn.Conv2d(3, 8, 8, 8)

    def forward(self, images):
        if self.training and len(images) > self.most:
            torch.empty(2**60)
        return self.conv(images).square()


@pytest.mark.slow
def test_memory_for_a_batch_or_for_none(pretrain, tmp_path):
    done = pretrain(Greedy(5), tmp_path / 'out', batch_size=None, iterations=1)
    assert mmengine.Config.fromfile(done.config).train_dataloader.batch_size == 4
    for most, batch in ((5, 8), (0, None)):
        with pytest.raises(MemoryError, match=f'a batch of {batch or 1} does not fit in memory'):
            pretrain(Greedy(most), tmp_path / 'none', batch_size=batch)
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize(
    ('device', 'hours', 'asked', 'compiled'),
    [('cuda', 1.0, None, True), ('cuda', 0.9, None, False), ('cuda', 2.0, False, False),
     ('cpu', 100.0, None, False), ('cpu', 0.1, True, True)],
)  # fmt: skip
def test_compiled_by_rule(monkeypatch, photos, vit, device, hours, asked, compiled):
    monkeypatch.setattr(run, 'get_device', lambda: device)
    monkeypatch.setattr(run, 'largest_batch', lambda config, batch, *_: (batch, Speed(1, 1)))
    monkeypatch.setattr(run, 'measure', lambda *_: Speed(0.5, 1))
    options = options_of(
        vit, hours=hours, compile_step=asked, precision='bfloat16', batch_size=None
    )
    images = split_images([photos], None, 0)
    chosen, speed = run.choose(options, images, find_network(options), 1)
    assert chosen.compile_step == compiled
    assert speed.iteration == (0.5 if compiled and asked is None else 1)


@pytest.mark.parametrize('kind', CORRUPTIONS)
@pytest.mark.parametrize('size', [8, 32, 224])
def test_corruptions_suit_the_image_size(kind, size):
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    corrupted, clean = TRANSFORMS.build(corruption_of(kind, size))(dict(img=image))['img']
    assert corrupted.shape == clean.shape == image.shape


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        ('small/energy-inpainting4-75-hog_vit-micro-p4_1xb128-amp-coslr-40e_small32', 32),
        ('recipe/energy-inpainting16-75-hog_vit-small-p16_8xb512-amp-coslr-100e_in1k', 224),
        ('recipe/energy-inpainting16-75-hog_vit-base-p16_8xb512-amp-coslr-400e_in1k', 224),
    ],
)
def test_inpainting_is_that_of_the_configs(name, size):
    path = CONFIGS / f'{name}.py'
    expected = mmengine.Config.fromfile(path)
    backbone = config_of(str(path))  # not built: ViT-B takes long
    network = Network(
        name, backbone, (size, size), 3, expected.model.head.in_channels, 'features', 0, False,
        sincos=True, patch_size=backbone['patch_size'],
    )  # fmt: skip
    options = options_of(energy='inpainting', image_size=None)
    images = Images(Path('.'), ['a.png'], ['b.png'], [], [], [])
    expected.model.compile_step = None
    expected.model.head.grid = pair('grid', expected.model.head.grid)
    found = full_config(images, network, options, length_of(Speed(1, 0), 1))
    assert found.model.to_dict() == expected.model.to_dict()
    masks = [
        next(t for t in c.train_dataloader.dataset.pipeline if t['type'] == 'GriddedMask')
        for c in (found, expected)
    ]
    assert masks[0] == masks[1]
    keys = [c.optim_wrapper.paramwise_cfg.custom_keys.pos_embed for c in (found, expected)]
    assert keys[0]['lr_mult'] == keys[1]['lr_mult'] == 0.0


@pytest.mark.slow
def test_names_of_mmpretrain(vit):
    for backbone, energy, key, value in (
        ('mmpretrain/ShuffleNetV2', 'restoration', 'type', 'ShuffleNetV2'),
        (vit, 'restoration', 'out_type', 'avg_featmap'),
        (vit, 'inpainting', 'out_type', 'raw'),
    ):
        assert find_network(options_of(backbone, energy=energy)).config[key] == value


def greatest_rate(schedule, batches, iterations):
    """Of an optimizer whose rate is 1, by MMEngine's own schedulers, with batches in an epoch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    built, rates = [], []
    for each in schedule:
        options = dict(each)
        kind = PARAM_SCHEDULERS.get(options.pop('type'))
        if options.pop('convert_to_iter_based', False):
            built.append(kind.build_iter_from_epoch(optimizer, **options, epoch_length=batches))
        else:
            built.append(kind(optimizer, **options))
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return max(rates)


def test_the_greatest_learning_rate_is_the_one_asked_for(photos, vit):
    options = options_of(vit)
    images, network = split_images([photos], None, 0), find_network(options)
    for iterations in (*range(1, 31), 97, 200):
        length = length_of(Speed(0.2, 0.1), iterations)
        schedule = full_config(images, network, options, length).param_scheduler
        assert greatest_rate(schedule, 1, iterations) == pytest.approx(1.0), iterations


@pytest.mark.parametrize('path', SCHEDULES)
@pytest.mark.parametrize('batches', [1, 2, 7])
def test_schedules_of_configs_reach_their_rate(path, batches):
    schedule = mmengine.Config.fromfile(path).get('param_scheduler') or []
    end = max((each.get('begin', 0) for each in schedule), default=0)
    by_epoch = any(each.get('convert_to_iter_based') for each in schedule)
    iterations = (end * batches if by_epoch else end) + 2
    assert greatest_rate(schedule, batches, iterations) == pytest.approx(1.0)


def test_compiled_on_a_gpu_only():
    model = build_algorithm(compile_step='gpu')
    model.loss([torch.rand(2, 3, 32, 32)] * 2)
    assert model._differentiate is differentiate


@pytest.mark.parametrize('tracker', TRACKERS)
def test_trackers_are_backends_of_mmengine(photos, vit, tracker):
    options = options_of(vit, tracker=tracker)
    images, length = split_images([photos], None, 0), length_of(Speed(1, 1), 1)
    config = full_config(images, find_network(options), options, length)
    assert VISBACKENDS.get(config.visualizer.vis_backends[-1]['type']) is not None
