import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from mmebm._compat import SUPPORTED, check_versions, installed_versions

OFFICIAL = dict(torch='2.5.1+cu124', mmengine='0.10.7', mmcv='2.1.0', mmpretrain='1.2.0')
FORKS = dict(torch='2.11.0+cu130', mmengine='0.10.12', mmcv='2.3.6', mmpretrain='1.3.6')


def test_official_releases_were_run_with_what_is_pinned():
    """tests/official_stack.sh writes the record: first when and with what result."""
    here = Path(__file__).parent
    record = (here / 'data/official_stack.txt').read_text().splitlines()
    assert re.fullmatch(r'\d{4}-\d\d-\d\d, Python 3\.\d+\.\d+: .*\d passed.*', record[0])
    pins = (here / '../requirements/official.txt').read_text().splitlines()
    assert sorted(record[1:]) == sorted(line for line in pins if not line.startswith('#'))


@pytest.mark.parametrize('found', [OFFICIAL, FORKS, {**FORKS, 'torch': '2.12.0a0+git1234567'}])
def test_supported_versions_pass(found):
    check_versions(found)


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        ('torch', '3.0.0a0'),
        ('mmcv', '2.4.0'),
        ('mmpretrain', '1.1.1'),
        ('mmpretrain', 'unknown'),
    ],
)
def test_unsupported_version_names_found_and_supported(name, version):
    with pytest.raises(ImportError) as raised:
        check_versions({**FORKS, name: version})
    message = str(raised.value)
    assert f'{name} {version} is installed, {SUPPORTED[name][0]} is supported' in message
    assert not any(other in message for other in SUPPORTED if other != name)


def test_missing_package_names_the_install_command():
    found = {name: version for name, version in FORKS.items() if name != 'mmcv'}
    with pytest.raises(ImportError, match=r'mmcv is not installed.*pip install onedl-mmcv') as two:
        check_versions(found | dict(torch='2.0.1'))
    assert 'torch 2.0.1 is installed' in str(two.value)


def test_versions_are_those_of_the_imported_modules():
    import mmcv
    import mmengine
    import mmpretrain
    import torch

    modules = (torch, mmengine, mmcv, mmpretrain)
    found = installed_versions()
    assert found.keys() == {module.__name__ for module in modules}
    for module in modules:
        assert module.__version__.split('+')[0] == found[module.__name__].split('+')[0]


def test_every_distribution_of_mmcv_counts(monkeypatch):
    def version(name):
        if name == 'mmcv-lite':
            return '2.1.0'
        raise PackageNotFoundError

    monkeypatch.setattr('mmebm._compat.version', version)
    assert installed_versions() == dict(mmcv='2.1.0')
