import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, default_collate
from mmpretrain.registry import MODELS

from mmebm.corruptions import BaseCorruption

from .conftest import EVERY_CORRUPTION, MIXTURE, RANDOM_CORRUPTIONS, build, name_of

EVERYTHING = [*EVERY_CORRUPTION, MIXTURE]
PACK = dict(type='PackInputs', meta_keys=('sample_idx', 'corruption'))


class ArrayDataset(BaseDataset):
    """Twelve seeded images (40, 56, 3) without files."""

    def load_data_list(self):
        images = np.random.default_rng(5).integers(0, 256, (12, 40, 56, 3), dtype=np.uint8)
        return [dict(img=image) for image in images]


def dataset_of(*transforms):
    return ArrayDataset(pipeline=[build(t) for t in transforms])


class SaltAndPepper(BaseCorruption):
    """The corruption of ``docs/corruptions.md``."""

    def __init__(self, share, seed=None):
        super().__init__(seed)
        self.share = share

    def corrupt(self, image, rng):
        corrupted, draw = image.copy(), rng.random(image.shape[:2])
        corrupted[draw < self.share] = 255
        corrupted[draw < self.share / 2] = 0
        return corrupted


@pytest.mark.parametrize('config', EVERYTHING, ids=name_of)
def test_image_becomes_pair_and_input_is_untouched(config, image):
    before = image.copy()
    results = build(config)(dict(img=image, img_shape=(45, 67)))
    corrupted, clean = results['img']
    assert clean is image
    assert image.flags.writeable
    np.testing.assert_array_equal(image, before)
    assert not np.may_share_memory(corrupted, clean)
    assert corrupted.flags.writeable
    assert corrupted.shape == clean.shape == (45, 67, 3)
    assert (corrupted != clean).any()
    assert results['img_shape'] == (45, 67)
    if config is not MIXTURE:
        assert results['corruption'] == config['type']


@pytest.mark.parametrize('size', [(1, 1), (1, 30), (30, 1), (3, 5), (224, 224), (97, 40)])
@pytest.mark.parametrize('config', EVERYTHING, ids=name_of)
def test_any_size(config, size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for image in (noise[:, ::-1], np.full_like(noise, 77)):
        corrupted, _ = build(config)(dict(img=image))['img']
        assert corrupted.shape == (*size, 3)
        assert np.isfinite(corrupted).all()


@pytest.mark.parametrize('config', EVERYTHING, ids=name_of)
def test_pipeline_to_preprocessor(config):
    """``PackInputs``, the collate function and the preprocessor take the pair; batches stack."""
    dataset = dataset_of(config, PACK)
    batch = default_collate([dataset[i] for i in range(12)])
    preprocessor = MODELS.build(
        dict(type='SelfSupDataPreprocessor', mean=[10, 20, 30], std=[2, 4, 5], to_rgb=True)
    )
    data = preprocessor(batch)
    corrupted, clean = data['inputs']
    assert corrupted.shape == clean.shape == (12, 3, 40, 56)
    assert corrupted.dtype == clean.dtype == torch.float32
    images = np.stack([dataset.get_data_info(i)['img'] for i in range(12)])
    expected = (images[..., ::-1].astype(np.float32) - [10, 20, 30]) / [2, 4, 5]
    np.testing.assert_allclose(clean.permute(0, 2, 3, 1), expected, rtol=1e-6)
    names = {sample.corruption for sample in data['data_samples']}
    assert names <= {c['type'] for c in EVERY_CORRUPTION}


@pytest.mark.parametrize('config', RANDOM_CORRUPTIONS, ids=name_of)
def test_without_seed_numpys_state_decides(config, image):
    corruption = build(config)

    def draw():
        return [corruption(dict(img=image))['img'][0] for _ in range(4)]

    np.random.seed(1)
    first = draw()
    np.random.seed(1)
    np.testing.assert_array_equal(first, draw())
    np.random.seed(2)
    assert not np.array_equal(first, draw())
    assert not np.array_equal(first[0], first[1]) or not np.array_equal(first[0], first[2])


def test_seed_gives_the_same_corruptions_in_every_epoch():
    dataset = dataset_of(dict(**MIXTURE, seed=0), PACK)
    epochs = [[dataset[i] for i in order] for order in (range(12), range(12), range(11, -1, -1))]
    epochs[2].reverse()
    for first, second, third in zip(*epochs, strict=True):
        assert torch.equal(first['inputs'][0], second['inputs'][0])
        assert torch.equal(first['inputs'][0], third['inputs'][0])
    assert len({item['data_samples'].corruption for item in epochs[0]}) > 2


def test_own_corruption(image):
    own = dict(type=SaltAndPepper, share=0.4)
    assert repr(build(own)) == 'SaltAndPepper(share=0.4, seed=None)'
    for config in (own, dict(type='MixedCorruption', corruptions=[own])):
        results = build(config, seed=0)(dict(img=image, sample_idx=0))
        corrupted, clean = results['img']
        changed = (corrupted != clean).any(axis=2)
        assert changed.mean() == pytest.approx(0.4, abs=0.04)
        assert set(np.unique(corrupted[changed])) == {0, 255}
        assert results['corruption'] == 'SaltAndPepper'
