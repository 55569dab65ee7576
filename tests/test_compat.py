import subprocess
import sys

import pytest

from mmebm._compat import SUPPORTED, check_versions, installed_versions

OFFICIAL = dict(torch='2.5.1+cu124', mmengine='0.10.7', mmcv='2.1.0', mmpretrain='1.2.0')
FORKS = dict(torch='2.11.0+cu130', mmengine='0.10.12', mmcv='2.3.6', mmpretrain='1.3.6')


@pytest.mark.parametrize('found', [OFFICIAL, FORKS, {**FORKS, 'torch': '2.12.0a0+git1234567'}])
def test_supported_versions_pass(found):
    check_versions(found)


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        ('torch', '1.13.1+cu117'),
        ('torch', '3.0.0a0'),
        ('mmengine', '0.10.6'),
        ('mmcv', '1.7.2'),
        ('mmcv', '2.4.0'),
        ('mmpretrain', '1.1.1'),
        ('mmpretrain', 'unknown'),
    ],
)
def test_unsupported_version_names_found_and_supported(name, version):
    with pytest.raises(ImportError) as raised:
        check_versions({**FORKS, name: version})
    message = str(raised.value)
    assert f'{name} {version} is installed, {SUPPORTED[name]} is supported' in message
    assert not any(other in message for other in SUPPORTED if other != name)


def test_missing_package_names_the_install_command():
    found = {name: version for name, version in FORKS.items() if name != 'mmcv'}
    with pytest.raises(ImportError, match=r'mmcv is not installed.*pip install onedl-mmcv'):
        check_versions(found)


def test_every_problem_is_named_at_once():
    with pytest.raises(ImportError) as raised:
        check_versions({'torch': '2.0.1', 'mmengine': '0.10.12'})
    message = str(raised.value)
    assert 'torch 2.0.1' in message
    assert 'mmcv is not' in message
    assert 'mmpretrain is not' in message
    assert 'mmengine' not in message


def test_versions_are_those_of_the_imported_modules():
    import mmcv
    import mmengine
    import mmpretrain
    import torch

    modules = (torch, mmengine, mmcv, mmpretrain)
    assert installed_versions() == {module.__name__: module.__version__ for module in modules}


@pytest.mark.slow
def test_version_comes_from_the_path_that_import_takes(tmp_path):
    """A package that shadows the installed one is seen, without being imported."""
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text('raise RuntimeError("imported")')
    (tmp_path / 'mmcv' / 'version.py').write_text('__version__ = "1.2.3"')
    (tmp_path / 'mmpretrain').mkdir()  # a bare folder is not a package, but would be imported
    script = 'import sys; sys.path.insert(0, sys.argv[1]); import mmebm'
    done = subprocess.run(
        [sys.executable, '-c', script, str(tmp_path)], capture_output=True, text=True, timeout=3600
    )
    assert 'ImportError: mmebm cannot be imported here:' in done.stderr
    assert 'mmcv 1.2.3 is installed, >=2.1,<2.4 is supported' in done.stderr
