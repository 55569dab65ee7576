"""Which files are images: searched in a folder as people have them, or named in a list."""

import codecs
import os

import pytest

from mmebm.datasets import IMAGE_EXTENSIONS, ImageFolder, classes_of, find_images, read_list

HEIC = ['raw/10.HEIC'] if '.heic' in IMAGE_EXTENSIONS else []  # where pillow-heif is installed


@pytest.fixture
def folder(tmp_path):
    """A folder with what people have beside their photographs."""
    root = tmp_path / 'photos'
    for name in (
        *('1.JPEG', 'x/2.png', 'x/y/z/3.Tif', 'x-y/4.webp', 'x/5.jpg.bak', 'notes.txt'),
        *('.hidden.jpg', '.thumbnails/6.jpg', '__MACOSX/x/._2.png', 'x/._2.png'),
        *('raw/7.CR2', 'raw/8.cr2', 'raw/9.svg', 'raw/10.HEIC'),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_images_at_any_depth_in_any_spelling_and_none_that_are_hidden(folder):
    found, notes = find_images(folder)
    names = [path.relative_to(folder).as_posix() for path in found]
    assert names == ['1.JPEG', *HEIC, 'x-y/4.webp', 'x/2.png', 'x/y/z/3.Tif']
    assert ('1 × .heic left out: pip install pillow-heif' in notes) == (not HEIC)
    assert [n.split(' left out')[0] for n in notes if 'heic' not in n] == ['2 × .cr2', '1 × .svg']
    dataset = ImageFolder(str(folder))
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert paths == list(map(str, found))
    assert find_images(folder / '1.JPEG') == ([folder / '1.JPEG'], [])


def test_links_are_followed_and_loops_end(folder, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'a.png').touch()
    for name in ('link', 'x/link'):
        os.symlink(tmp_path / 'elsewhere', folder / name)
    os.symlink(folder, folder / 'x' / 'loop')
    os.symlink(tmp_path / 'gone.png', folder / 'gone.png')
    found, _ = find_images(folder)
    assert [p.relative_to(folder).as_posix() for p in found if p.name == 'a.png'] == [
        'link/a.png',
        'x/link/a.png',
    ]
    assert len(found) == len(ImageFolder(str(folder))) == 6 + len(HEIC)


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    for name in ('1.cr2', 'x/2.cr2', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for search in (find_images, lambda path: ImageFolder(str(path))):
        with pytest.raises(FileNotFoundError, match=r'No image below .*2 × \.cr2.*\.jpeg') as error:
            search(tmp_path)
        assert str(tmp_path) in str(error.value)
        with pytest.raises(FileNotFoundError, match='nowhere'):
            search(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match=r'notes\.txt'):
        ImageFolder(str(tmp_path / 'notes.txt'))


@pytest.mark.parametrize('mark', [b'', codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_lists_as_people_write_them(folder, mark):
    (folder / '#1.png').touch()
    text = '# the best\r\n\r\n1.JPEG\r\n#x/2.png\r\n x\\y\\z\\3.Tif \r\n#1.png\r\n'
    coded = text.encode('utf-16-le' if mark == codecs.BOM_UTF16_LE else 'utf-8')
    (folder / 'list.txt').write_bytes(mark + coded)
    # a comment is what names no file
    (folder / 'x/2.png').rename(folder / 'x/two.png')
    expected = [folder / name for name in ('1.JPEG', 'x/y/z/3.Tif', '#1.png')]
    assert read_list(folder / 'list.txt') == expected


def test_lists_that_name_nothing(folder):
    (folder / 'list.txt').write_text('1.JPEG\ngone.png\n')
    with pytest.raises(FileNotFoundError, match=r'1 files that are missing.*gone\.png'):
        read_list(folder / 'list.txt')
    (folder / 'list.txt').write_text('\n# nothing\n')
    with pytest.raises(FileNotFoundError, match=r'list\.txt.* no image'):
        read_list(folder / 'list.txt')
    (folder / 'list.txt').write_bytes(b'\xff\xd8\xff\xe0')
    with pytest.raises(ValueError, match='no text'):
        read_list(folder / 'list.txt')


@pytest.mark.parametrize(
    ('names', 'classes'),
    [
        (['cat/1.png', 'dog/x/2.png'], ['cat', 'dog']),
        (['cat/1.png', 'cat/2.png'], []),
        (['cat/1.png', '2.png'], []),
        (['train/1.png', 'test/2.png'], []),
        (['train/cat/1.png', 'test/cat/2.png', 'Val/3.png'], []),
        (['train/cat/1.png', 'train/dog/2.png', 'test/cat/3.png'], ['cat', 'dog', 'cat']),
        (['plane/2.png', 'train/1.png'], ['plane', 'train']),
    ],
)
def test_splits_are_no_classes(names, classes):
    assert classes_of(names) == classes
