"""Installs the package, and inside it (mmebm/.mim) the configs, tools and model index, which is
where MIM looks for them, as in MMPretrain.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

MIM_FILES = ('configs', 'tools', 'model-index.yml')


def read_requirements(name: str) -> list[str]:
    lines = Path('requirements', name).read_text('utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def read_version() -> str:
    scope: dict[str, str] = {}
    exec(Path('mmebm/version.py').read_text('utf-8'), scope)
    return scope['__version__']


class BuildWithMim(build_py):
    """Adds ``mmebm/.mim`` to a wheel.

    Not to an editable install: of that, MIM takes the checkout itself, and refuses a config that it
    finds there twice.
    """

    def run(self) -> None:
        super().run()
        mim = Path('mmebm' if self.editable_mode else f'{self.build_lib}/mmebm', '.mim')
        shutil.rmtree(mim, ignore_errors=True)  # a file that is gone must not stay in the copy
        if self.editable_mode:
            return
        mim.mkdir(parents=True)
        tools = mim.with_name('tools')  # python -m mmebm.tools.train
        shutil.rmtree(tools, ignore_errors=True)
        shutil.copytree('tools', tools, ignore=shutil.ignore_patterns('__pycache__'))
        for name in MIM_FILES:
            if Path(name).is_dir():
                shutil.copytree(name, mim / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(name, mim / name)


setup(
    name='mmebm',
    version=read_version(),
    description='Energy-based self-supervised pretraining as a plugin of MMPretrain',
    long_description=Path('README.md').read_text('utf-8') if Path('README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=['mmebm', 'mmebm.*']),
    package_data={'mmebm': ['report/templates/*', 'restorer/network/*']},
    python_requires='>=3.10',
    install_requires=read_requirements('runtime.txt'),
    extras_require={
        'onedl': read_requirements('onedl.txt'),
        'demo': read_requirements('demo.txt'),
        'tests': read_requirements('tests.txt'),
    },
    py_modules=['mmebm_command'],
    entry_points={'console_scripts': ['mmebm=mmebm_command:main']},
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
