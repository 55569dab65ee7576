"""Says at import which installed versions the package cannot work beside.

Versions are read without importing the packages: that is quick, it works for a package that fails
to import, and it reads what would be imported rather than what some distribution's metadata says.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

# The lower ends are OpenMMLab's last releases, the versions in requirements/lock.txt are the
# maintained forks. Both ends were run.
SUPPORTED = {
    'torch': '>=2.4,<3',
    'mmengine': '>=0.10.7,<1',
    'mmcv': '>=2.1,<2.4',  # the upper end is MMPretrain's own
    'mmpretrain': '>=1.2,<2',
}

INSTALL = {
    'torch': 'pip install torch torchvision',
    'mmengine': 'pip install onedl-mmengine',
    'mmcv': 'pip install onedl-mmcv',
    'mmpretrain': 'pip install onedl-mmpretrain',
}


def check_versions(found: dict[str, str]) -> None:
    """Raises ImportError that names every package of ``SUPPORTED`` that is missing or unsupported.

    Args:
        found: package name to version; a package that is not installed has no entry.
    """
    problems = []
    for name, supported in SUPPORTED.items():
        if name not in found:
            problems.append(f'{name} is not installed, {supported} is needed: {INSTALL[name]}')
        elif not _matches(found[name], supported):
            problems.append(f'{name} {found[name]} is installed, {supported} is supported')
    if problems:
        raise ImportError('mmebm cannot be imported here:\n  ' + '\n  '.join(problems))


def _matches(version: str, supported: str) -> bool:
    try:
        return SpecifierSet(supported).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def installed_versions() -> dict[str, str]:
    """The versions of the packages of ``SUPPORTED`` that importing them would give."""
    versions = {name: _installed_version(name) for name in SUPPORTED}
    return {name: version for name, version in versions.items() if version is not None}


def _installed_version(name: str) -> str | None:
    module = sys.modules.get(name)
    if module is not None:
        return str(module.__version__)
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:  # no origin: a stray folder of that name
        return None
    return str(runpy.run_path(str(Path(spec.origin).with_name('version.py')))['__version__'])
