"""Check at import that the installed packages are supported.

Versions are read without importing the packages: that is quick, works even for a package that fails
to import, and reads what would be imported rather than a distribution's metadata.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

# The lower ends are OpenMMLab's last releases; requirements/lock.txt has the maintained forks. Both
# were run.
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
    """Check versions against ``SUPPORTED``.

    Args:
        found: package name → version; a package that is not installed has no entry.

    Raises:
        ImportError: a package is missing or unsupported; names all of them.
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
    if spec is None or spec.origin is None:  # no origin: just a folder of that name
        return None
    return str(runpy.run_path(str(Path(spec.origin).with_name('version.py')))['__version__'])
