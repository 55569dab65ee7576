import errno
import os
from types import SimpleNamespace

import pytest
from mmengine.fileio import get_file_backend
from mmengine.fileio.backends import registry_utils

from mmebm.utils import whole_files
from mmebm.utils.whole_files import WholeFilesBackend, register_whole_files


def failing(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / 'new' / f'{"e" * 250}.pth'  # as long as a name may be
    for content in b'first', b'second':
        WholeFilesBackend().put(content, str(path))
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_what_was_there_stays_when_the_disk_is_full(tmp_path, monkeypatch, step):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'first')
    monkeypatch.setattr(whole_files.os, step, failing(errno.ENOSPC))
    disk = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr(whole_files.shutil, 'disk_usage', lambda _: disk)
    room = r'3\.0 MB are needed, 1\.0 MB are free'
    with pytest.raises(OSError, match=room):
        WholeFilesBackend().put(bytes(3_000_000), path)
    assert path.read_bytes() == b'first'
    assert os.listdir(tmp_path) == ['epoch_1.pth']


def test_mmengine_takes_it_for_local_files(tmp_path, monkeypatch):
    for name in ('backends', 'prefix_to_backends'):
        monkeypatch.setattr(registry_utils, name, getattr(registry_utils, name).copy())
    monkeypatch.setattr('mmengine.fileio.io.backends', registry_utils.backends)
    monkeypatch.setattr('mmengine.fileio.io.prefix_to_backends', registry_utils.prefix_to_backends)
    register_whole_files()
    assert type(get_file_backend(str(tmp_path / 'epoch_1.pth'))) is WholeFilesBackend
