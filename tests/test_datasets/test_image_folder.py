import copy
import random
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mmebm.datasets import ImageFolder, derive_seeds, why_unreadable
from mmebm.datasets.reader import FEW_BITS, SEVERAL
from mmebm.utils import UserError

from .conftest import encoded

LOAD = [dict(type='LoadImageFromFile')]


def picture(seed: int = 0, height: int = 48, width: int = 64) -> Image.Image:
    """A smooth picture, so that lossy formats come close to it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


class RecordDraws:
    """A transform at module level, so that spawned workers can import it."""

    def __call__(self, results: dict) -> dict:
        draws = [np.random.rand(), random.random(), torch.rand(1, dtype=torch.float64).item()]
        return {
            'draws': draws,
            'path': results['img_path'],
            'sample_idx': results['sample_idx'],
            'mean': results['img'].mean(),
        }


def as_list(batch: list) -> list:
    return batch


@pytest.fixture
def folder(tmp_path):
    """Eight readable images, nested."""
    root = tmp_path / 'images'
    for number in range(8):
        path = root / ('a' if number % 2 else 'b/c') / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, height=8 + number).save(path)
    return root


def test_sub_folders_are_classes_on_request(folder):
    dataset = ImageFolder(str(folder.parent), 'images', with_label=True)  # as CustomDataset's
    assert dataset.metainfo['classes'] == ('a', 'b')
    assert dataset.get_gt_labels().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize('test_mode', [False, True])
def test_unreadable_images_are_replaced_and_say_why(folder, test_mode):
    for name in ('text.jpg', 'text2.jpg'):
        (folder / name).write_bytes(b'<html>404 not found</html>')
    (folder / 'half.jpg').write_bytes(encoded(picture(), 'JPEG')[:600])
    (folder / 'vanished.jpg').touch()
    dataset = ImageFolder(str(folder), pipeline=LOAD, test_mode=test_mode)
    (folder / 'vanished.jpg').unlink()
    dataset.set_epoch(0)
    for _ in range(2):
        samples = [dataset[i] for i in range(len(dataset))]
    bad = [str(folder / name) for name in ('half.jpg', 'text.jpg', 'text2.jpg', 'vanished.jpg')]
    assert not {sample['img_path'] for sample in samples} & set(bad)
    assert dataset.unreadable_images() == bad
    expected = 'damaged', 'no image', 'no image', 'FileNotFoundError'
    for path, reason in zip(bad, expected, strict=True):
        assert reason in why_unreadable(path)


def test_special_images_are_counted(folder):
    for number in range(3):
        grey = np.asarray(picture(number).convert('L')).astype(np.uint16) * 16
        (folder / f'grey{number}.png').write_bytes(encoded(Image.fromarray(grey), 'PNG'))
    pages = dict(save_all=True, append_images=[picture(1)])
    (folder / 'pages.tif').write_bytes(encoded(picture(0), 'TIFF', **pages))
    dataset = ImageFolder(str(folder), pipeline=LOAD)
    assert dataset.notes() == {}
    for _ in range(2):
        assert all(dataset[i]['img'].max() > 100 for i in range(len(dataset)))
    assert dataset.notes() == {FEW_BITS: 3, SEVERAL: 1}
    assert dataset.unreadable_images() == []


def test_nothing_readable_says_how_many_of_which_kind(folder):
    dataset = ImageFolder(str(folder), pipeline=LOAD, max_refetch=60)
    shutil.rmtree(folder)  # as if the storage were gone
    with pytest.raises(UserError, match=r'61 attempts .* of 8 images .* 8 × FileNotFoundError'):
        dataset[0]


def test_options_of_the_loading_transform(folder):
    load = dict(type='LoadImageFromFile', to_float32=True)
    assert ImageFolder(str(folder), pipeline=[load])[0]['img'].dtype == np.float32
    grey = dict(type='LoadImageFromFile', color_type='grayscale')  # MMCV's own
    assert ImageFolder(str(folder), pipeline=[grey])[0]['img'].ndim == 2


def epochs(dataset, num_epochs=2, **options) -> list[dict]:
    """Draws and path of each sample of a loader, per epoch."""
    loader = DataLoader(dataset, batch_size=3, shuffle=True, collate_fn=as_list, **options)
    delivered = []
    for epoch in range(num_epochs):
        dataset.set_epoch(epoch, seed=7)
        samples = [sample for batch in loader for sample in batch]
        delivered.append({s['path']: (s['draws'], s['mean'], s['sample_idx']) for s in samples})
    return delivered


@pytest.mark.slow
def test_draws_depend_on_seed_epoch_and_sample_only(folder):
    def dataset():
        return ImageFolder(str(folder), pipeline=[*LOAD, RecordDraws()])

    reference = epochs(dataset(), num_workers=0)
    for options in (
        dict(num_workers=1),
        dict(num_workers=2, persistent_workers=True),
        dict(num_workers=2, prefetch_factor=1),
    ):
        assert epochs(dataset(), **options) == reference
    draws = [tuple(draw[0]) for epoch in reference for draw in epoch.values()]
    assert len(set(draws)) == 16  # no two samples, and no two epochs, have the same

    resumed = dataset()
    resumed.set_epoch(1, seed=7)
    assert resumed[2]['draws'] == reference[1][resumed[2]['path']][0]
    resumed.set_epoch(1, seed=8)
    assert resumed[2]['draws'] != reference[1][resumed[2]['path']][0]


def test_derived_seeds_are_stable_across_versions():
    # A change here changes every crop and corruption of a run that is resumed after an update.
    assert derive_seeds(0, 1, 2) == (3884055042, 715223343, 3054743997)
    assert derive_seeds(0) == (2968811710, 3677149159, 745650761)


def test_generators_of_the_main_process_are_left_alone(folder):
    dataset = ImageFolder(str(folder), pipeline=[*LOAD, RecordDraws()])
    dataset.set_epoch(0)
    states = np.random.get_state(legacy=False), random.getstate(), torch.get_rng_state()
    dataset[3]
    np.testing.assert_equal(np.random.get_state(legacy=False), states[0])
    assert random.getstate() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_repeats_deliver_each_image_with_draws_of_its_own(folder):
    (folder / '0.jpg').write_bytes(b'')
    dataset = ImageFolder(str(folder), pipeline=[*LOAD, RecordDraws()], repeats=3)
    dataset.set_epoch(0)
    assert (len(dataset), dataset.num_images) == (27, 9)
    samples = list(dataset)  # ends only if an index beyond the end is an IndexError
    assert len({tuple(sample['draws']) for sample in samples}) == 27
    assert [sample['path'] for sample in samples[1:9]] == [s['path'] for s in samples[10:18]]
    assert [samples[i]['sample_idx'] for i in (1, 10, 19)] == [1, 10, 19]
    assert dataset[-1]['draws'] == samples[-1]['draws']
    assert dataset.unreadable_images() == [str(folder / '0.jpg')]
    with pytest.raises(IndexError, match='index 27 is out of range for 27 samples'):
        dataset[27]


@pytest.mark.parametrize(
    ('method', 'workers'), [('fork', 2), pytest.param('spawn', 1, marks=pytest.mark.slow)]
)
def test_running_workers_report_marks_and_see_epochs(folder, method, workers):
    bad = folder / 'bad.jpg'
    bad.write_bytes(b'')
    late = folder / 'a' / '1.jpg'
    # As MMEngine's Runner builds it from the config of a loader.
    dataset = copy.deepcopy(ImageFolder(str(folder), pipeline=[*LOAD, RecordDraws()]))
    loader = DataLoader(
        dataset,
        batch_size=2,
        collate_fn=as_list,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context=method,
    )
    draws = []
    for epoch, expected in enumerate([[bad], [late, bad]]):
        dataset.set_epoch(epoch)
        draws.append([s['draws'] for batch in loader for s in batch])
        assert dataset.unreadable_images() == [str(path) for path in expected]
        late.write_bytes(b'no longer an image')
    assert all(a != b for a, b in zip(*draws, strict=True))


def test_subsets_have_marks_of_their_own(folder):
    dataset = ImageFolder(str(folder), pipeline=LOAD)
    (folder / 'a' / '1.jpg').write_bytes(b'')
    dataset.get_subset_([4, 0])
    assert dataset[1]['img'].size
    assert dataset.unreadable_images() == [str(folder / 'a' / '1.jpg')]
    assert len(ImageFolder(str(folder), indices=3)) == 3
