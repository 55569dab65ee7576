"""Check at import that the installed packages are supported."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

# The lower ends are OpenMMLab's last releases; requirements/lock.txt has the maintained forks. Both
# were run. The upper end of mmcv is MMPretrain's own.
SUPPORTED = {
    'torch': ('>=2.4,<3', 'torch torchvision'),
    'mmengine': ('>=0.10.7,<1', 'onedl-mmengine'),
    'mmcv': ('>=2.1,<2.4', 'onedl-mmcv'),
    'mmpretrain': ('>=1.2,<2', 'onedl-mmpretrain'),
}


def check_versions(found: dict[str, str]) -> None:
    """Check versions against ``SUPPORTED``.

    Args:
        found: package name → version; a package that is not installed has no entry.

    Raises:
        ImportError: a package is missing or unsupported; names all of them.
    """
    problems = []
    for name, (supported, install) in SUPPORTED.items():
        if name not in found:
            problems.append(
                f'{name} is not installed, {supported} is needed: pip install {install}'
            )
        elif not _matches(found[name], supported):
            problems.append(f'{name} {found[name]} is installed, {supported} is supported')
    if problems:
        raise ImportError('mmebm cannot be imported here:\n  ' + '\n  '.join(problems))


def _matches(found: str, supported: str) -> bool:
    try:
        return SpecifierSet(supported).contains(found, prereleases=True)
    except InvalidVersion:
        return False


def installed_versions() -> dict[str, str]:
    """The versions of the packages of ``SUPPORTED``, of OpenMMLab or of the maintained forks."""
    found = {}
    for name in SUPPORTED:
        for distribution in (f'onedl-{name}', name, f'{name}-lite'):
            with suppress(PackageNotFoundError):
                found.setdefault(name, version(distribution))
    return found
