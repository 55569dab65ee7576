import copy
import io
import random
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmpretrain.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

from mmebm.datasets import IMAGE_EXTENSIONS, ImageFolder

LOAD = [dict(type='LoadImageFromFile')]


def picture(seed: int = 0, height: int = 48, width: int = 64) -> Image.Image:
    """A smooth picture, so that lossy formats come close to it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


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


@pytest.fixture
def warnings(monkeypatch):
    messages = []

    def keep(message, **_):
        messages.append(message)

    monkeypatch.setattr('mmebm.datasets.image_folder.print_log', keep)
    return messages


# Finding images -------------------------------------------------------------------------------


def test_finds_images_at_any_depth_and_in_any_spelling(tmp_path):
    wanted = ['1.JPEG', 'x/2.png', 'x/y/z/3.Tif', 'x/4.webp']
    for name in [*wanted, 'notes.txt', 'x/.hidden.jpg', 'x/5.jpg.bak']:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    dataset = DATASETS.build(dict(type='ImageFolder', data_root=str(tmp_path)))
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert paths == sorted(str(tmp_path / name) for name in wanted)
    assert 'gt_label' not in dataset.get_data_info(0)


def test_sub_folders_are_classes_on_request(folder):
    dataset = ImageFolder(str(folder), with_label=True)
    assert dataset.metainfo['classes'] == ('a', 'b')
    assert dataset.get_gt_labels().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_annotation_file_in_place_of_a_search(folder, tmp_path):
    (tmp_path / 'list.txt').write_text('a/3.jpg\nb/c/0.jpg\n')
    dataset = ImageFolder(str(folder), ann_file=str(tmp_path / 'list.txt'), pipeline=LOAD)
    assert [dataset[i]['img'].shape[0] for i in range(len(dataset))] == [11, 8]
    (tmp_path / 'list.txt').write_text('')
    with pytest.raises(FileNotFoundError, match=r'list\.txt.*lists no image'):
        ImageFolder(str(folder), ann_file=str(tmp_path / 'list.txt'))


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder.parent))
    assert len(ImageFolder('~/images')) == 8


def test_missing_folder_names_the_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}/nowhere.*data_root'):
        ImageFolder('nowhere')


def test_file_in_place_of_a_folder(folder):
    with pytest.raises(ValueError, match=r'Not a folder.*a/1\.jpg'):
        ImageFolder(str(folder / 'a' / '1.jpg'))


def test_folder_without_images_names_what_it_holds_and_what_is_read(tmp_path):
    for name in ('1.heic', 'x/2.heic', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError) as error:
        ImageFolder(str(tmp_path))
    assert f'No image below {tmp_path}' in str(error.value)
    assert '2 × .heic, 1 × .txt' in str(error.value)
    assert '.jpeg' in str(error.value)
    assert '.webp' in str(error.value)


def test_folder_without_class_folders_says_that_they_are_missing(folder):
    with pytest.raises(FileNotFoundError, match=r'class sub-folders \(with_label=True\)'):
        ImageFolder(str(folder / 'a'), with_label=True)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(data_root=''), ValueError, 'data_root'),
        (dict(repeats=0), ValueError, 'repeats must be an integer ≥ 1, got 0'),
        (dict(repeats=1.5), TypeError, 'repeats must be an integer ≥ 1, got 1.5'),
        (dict(seed=-1), ValueError, 'seed must be an integer ≥ 0, got -1'),
        (dict(max_refetch=-1), ValueError, 'max_refetch must be an integer ≥ 0, got -1'),
        (dict(max_refetch=True), TypeError, 'max_refetch must be an integer ≥ 0, got True'),
        (dict(extensions='.jpg'), TypeError, r"extensions must be a list such as \['.jpg'\]"),
        (dict(extensions=[]), ValueError, 'extensions must name at least one'),
    ],
)
def test_impossible_options_are_refused(folder, options, error, message):
    with pytest.raises(error, match=message):
        ImageFolder(**{'data_root': str(folder), **options})


def test_epochs_are_checked(folder):
    with pytest.raises(ValueError, match='epoch must be an integer ≥ 0, got -1'):
        ImageFolder(str(folder)).set_epoch(-1)


# Kinds of images ------------------------------------------------------------------------------


def grey16(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257)


def colour16(image: Image.Image) -> bytes:
    bgr = np.asarray(image)[..., ::-1].astype(np.uint16) * 257
    return cv2.imencode('.png', bgr)[1].tobytes()


def translucent(image: Image.Image) -> Image.Image:
    image = image.convert('RGBA')
    image.putalpha(128)
    return image


@pytest.mark.parametrize(
    ('name', 'convert', 'grey', 'tolerance'),
    [
        ('cmyk.jpg', lambda i: encoded(i.convert('CMYK'), 'JPEG', quality=95), False, 4),
        ('grey.jpg', lambda i: encoded(i.convert('L'), 'JPEG', quality=95), True, 4),
        ('progressive.jpg', lambda i: encoded(i, 'JPEG', quality=95, progressive=True), False, 4),
        ('palette.png', lambda i: encoded(i.convert('P', palette=1), 'PNG'), False, 12),
        ('palette.gif', lambda i: encoded(i.convert('P', palette=1), 'GIF'), False, 12),
        ('grey.png', lambda i: encoded(i.convert('L'), 'PNG'), True, 0),
        ('grey_alpha.png', lambda i: encoded(i.convert('LA'), 'PNG'), True, 0),
        ('alpha.png', lambda i: encoded(translucent(i), 'PNG'), False, 0),
        ('alpha.webp', lambda i: encoded(translucent(i), 'WEBP', quality=95), False, 4),
        ('grey16.png', lambda i: encoded(grey16(i), 'PNG'), True, 0),
        ('grey16.tiff', lambda i: encoded(grey16(i), 'TIFF'), True, 0),
        ('colour16.png', colour16, False, 0),
        ('cmyk.tif', lambda i: encoded(i.convert('CMYK'), 'TIFF'), False, 1),
        ('colour.jp2', lambda i: encoded(i, 'JPEG2000'), False, 0),
    ],
)
def test_every_kind_of_image_becomes_three_bytes_per_pixel(
    tmp_path, name, convert, grey, tolerance
):
    image = picture()
    (tmp_path / name).write_bytes(convert(image))
    loaded = ImageFolder(str(tmp_path), pipeline=LOAD)[0]['img']
    expected = np.asarray(image.convert('L').convert('RGB') if grey else image)[..., ::-1]
    assert loaded.shape == (48, 64, 3)
    assert loaded.dtype == np.uint8
    assert np.abs(loaded.astype(float) - expected).mean() <= tolerance


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_orientation_of_the_camera_is_applied(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    image = picture()
    (tmp_path / f'1.{kind.lower()}').write_bytes(encoded(image, kind, exif=exif, quality=95))
    loaded = ImageFolder(str(tmp_path), pipeline=LOAD)[0]['img']
    expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270))[..., ::-1]
    assert loaded.shape == expected.shape == (64, 48, 3)
    assert np.abs(loaded.astype(float) - expected).mean() < 5


@pytest.mark.parametrize('extension', IMAGE_EXTENSIONS)
def test_every_extension_is_decoded(tmp_path, extension, warnings):
    # The decoder looks at the content: these two extensions have no encoder of their own.
    written_as = {'.jfif': '.jpg', '.pxm': '.ppm'}.get(extension, extension)
    path = tmp_path / f'1{extension}'
    image = np.asarray(picture())[..., ::-1]
    if written_as == '.j2k':
        path.write_bytes(encoded(picture(), 'JPEG2000', no_jp2=True))
    elif written_as in ('.hdr', '.pic'):
        path.write_bytes(cv2.imencode(written_as, image.astype(np.float32) / 255)[1].tobytes())
    else:
        grey = written_as in ('.pbm', '.pgm')
        source = np.ascontiguousarray(image[..., 0] if grey else image)
        path.write_bytes(cv2.imencode(written_as, source)[1].tobytes())
    loaded = ImageFolder(str(tmp_path), pipeline=LOAD)[0]['img']
    assert loaded.shape == (48, 64, 3)
    assert loaded.dtype == np.uint8
    assert loaded.std() > 10
    assert warnings == []


# Unreadable images ----------------------------------------------------------------------------

BROKEN = {
    'truncated.jpg': encoded(picture(), 'JPEG')[:600],
    'nearly_whole.jpg': encoded(picture(), 'JPEG')[:-20],
    'truncated.png': encoded(picture(), 'PNG')[:3000],
    'truncated.webp': encoded(picture(), 'WEBP')[:200],
    'truncated.tif': encoded(picture(), 'TIFF')[:3000],
    'truncated.gif': encoded(picture(), 'GIF')[:600],
    'text.jpg': b'<html>404 not found</html>',
    'empty.jpg': b'',
    'vanished.jpg': None,
}


@pytest.mark.parametrize('test_mode', [False, True])
@pytest.mark.parametrize('name', BROKEN)
def test_unreadable_image_is_replaced_marked_and_named_once(folder, warnings, name, test_mode):
    path = folder / name
    path.write_bytes(BROKEN[name] or b'')
    dataset = ImageFolder(str(folder), pipeline=LOAD, test_mode=test_mode)
    if BROKEN[name] is None:
        path.unlink()
    dataset.set_epoch(0)
    for _ in range(2):
        samples = [dataset[i] for i in range(len(dataset))]
    assert all(sample['img'].shape == (*sample['img_shape'], 3) for sample in samples)
    assert str(path) not in [sample['img_path'] for sample in samples]
    assert dataset.unreadable_images() == [str(path)]
    assert len(warnings) == 1
    assert str(path) in warnings[0]


def test_replacements_are_fixed(folder):
    (folder / '0.jpg').write_bytes(b'')
    first, second = (
        ImageFolder(str(folder), pipeline=LOAD, test_mode=mode) for mode in (True, False)
    )
    assert len({first[0]['img_path'] for _ in range(5)}) == 1
    by_epoch = []
    for epoch in range(6):
        second.set_epoch(epoch)
        by_epoch.append(second[0]['img_path'])
        assert second[0]['img_path'] == by_epoch[-1]
    assert len(set(by_epoch)) > 1


def test_error_of_a_transform_is_no_unreadable_image(folder):
    def fail(results):
        raise OSError('a bug, say')

    dataset = ImageFolder(str(folder), pipeline=[*LOAD, fail])
    with pytest.raises(OSError, match='a bug, say'):
        dataset[0]
    assert dataset.unreadable_images() == []


def test_image_that_a_transform_rejects_is_replaced_but_not_marked(folder):
    def only_tall(results):
        return results if results['img'].shape[0] > 12 else None

    dataset = ImageFolder(str(folder), pipeline=[*LOAD, only_tall])
    assert dataset[0]['img'].shape[0] > 12
    assert dataset.unreadable_images() == []


def test_nothing_readable_is_an_error_that_says_so(folder, warnings):
    dataset = ImageFolder(str(folder), pipeline=LOAD, max_refetch=60)
    shutil.rmtree(folder)  # as if the storage were gone
    with pytest.raises(RuntimeError) as error:
        dataset[0]
    assert 'No image was delivered in 61 attempts (max_refetch=60)' in str(error.value)
    assert 'Of 8 images' in str(error.value)
    assert '8 turned out unreadable' in str(error.value)
    assert str(folder / 'a' / '1.jpg') in str(error.value)
    assert len(warnings) == 8
    assert 'FileNotFoundError' in warnings[0]


def test_mostly_unreadable_set_still_loads(folder):
    for number in range(72):
        (folder / f'bad{number}.jpg').write_bytes(b'')
    dataset = ImageFolder(str(folder), pipeline=LOAD)  # 90 % bad
    assert all(dataset[i]['img'].size for i in range(len(dataset)))
    assert len(dataset.unreadable_images()) == 72


# Randomness -----------------------------------------------------------------------------------


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


def test_seed_option(folder):
    def draws(seed):
        dataset = ImageFolder(str(folder), pipeline=[*LOAD, RecordDraws()], seed=seed)
        dataset.set_epoch(0)
        return dataset[0]['draws']

    assert draws(1) == draws(1) != draws(2)


def test_generators_of_the_main_process_are_left_alone(folder):
    dataset = ImageFolder(str(folder), pipeline=[*LOAD, RecordDraws()])
    dataset.set_epoch(0)
    states = np.random.get_state(legacy=False), random.getstate(), torch.get_rng_state()
    dataset[3]
    np.testing.assert_equal(np.random.get_state(legacy=False), states[0])
    assert random.getstate() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_before_an_epoch_is_set_samples_draw_from_the_process(folder):
    dataset = ImageFolder(str(folder), pipeline=[*LOAD, RecordDraws()])
    assert dataset[0]['draws'] != dataset[0]['draws']
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    assert dataset[0]['draws'][0] == expected


def test_in_test_mode_the_epoch_does_not_matter(folder):
    dataset = ImageFolder(str(folder), pipeline=[*LOAD, RecordDraws()], test_mode=True)
    unset = dataset[0]['draws']
    dataset.set_epoch(5)
    assert dataset[0]['draws'] == unset != dataset[1]['draws']


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


# Shared state ---------------------------------------------------------------------------------


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


def test_subsets_have_marks_of_their_own(folder, warnings):
    dataset = ImageFolder(str(folder), pipeline=LOAD)
    (folder / 'a' / '1.jpg').write_bytes(b'')
    subset = dataset.get_subset([0, 5])
    assert subset[0]['img'].size
    assert subset.unreadable_images() == [str(folder / 'a' / '1.jpg')]
    assert subset._unreadable.is_shared()
    assert dataset.unreadable_images() == []
    dataset.get_subset_([4, 0])
    assert dataset[1]['img'].size
    assert dataset.unreadable_images() == [str(folder / 'a' / '1.jpg')]
    assert len(ImageFolder(str(folder), indices=3)) == 3


def test_lazy_dataset_searches_at_first_use(folder):
    dataset = ImageFolder(str(folder), pipeline=LOAD, lazy_init=True)
    assert not copy.deepcopy(dataset)._fully_initialized
    assert len(dataset) == 8
    dataset = ImageFolder(str(folder), pipeline=LOAD, lazy_init=True)
    dataset.set_epoch(1)
    assert dataset[0]['img'].size
