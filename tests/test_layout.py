"""The layout of the project: sizes, the direction of imports, and how far an image travels."""

import ast
import sys
from pathlib import Path

import pytest

import mmebm
from mmebm.cli.main import main
from tests.tools import load_tool, write_noise

ROOT = Path(__file__).parents[1]
PACKAGE = Path(mmebm.__file__).parent
LAYERS = (
    ('utils',),
    ('autograd',),
    ('backbones',),
    ('corruptions', 'datasets'),
    ('models',),
    ('evaluation',),
    ('engine',),
    ('report', 'conversion', 'restorer'),
    ('pretraining', 'benchmark'),
    ('cli',),
)
HEIGHT = {part: height for height, parts in enumerate(LAYERS) for part in parts}
COMMANDS = ('cli', 'restorer', 'pretraining', 'benchmark', 'report', 'conversion')
CONFIG = ROOT / 'configs/masking/energy-gridded16-50_vit-small-p16_8xb32-amp-coslr-100e_in1k.py'


def lines(*folders: str) -> int:
    paths = [path for folder in folders for path in (ROOT / folder).rglob('*.py')]
    return sum(path.read_text().count('\n') for path in paths if '.mim' not in path.parts)


def words(*patterns: str) -> int:
    return sum(len(path.read_text().split()) for p in patterns for path in ROOT.glob(p))


def sizes() -> list[tuple[str, int, int]]:
    """What is limited, its size and the limit."""
    return [
        ('mmebm, lines', lines('mmebm'), 12_000),
        (' + '.join(COMMANDS), lines(*(f'mmebm/{part}' for part in COMMANDS)), 4_600),
        ('tools, lines', lines('tools'), 1_300),
        ('tests, lines', lines('tests'), 12_500),
        ('docs and README, words', words('docs/*.md', 'README.md'), 17_000),
        ('docs, pages', len(list(ROOT.glob('docs/*.md'))), 14),
        ('CHANGELOG, words', words('CHANGELOG.md'), 300),
    ]


def test_sizes():
    table = '\n'.join(f'{name:62} {size:6,} of {limit:6,}' for name, size, limit in sizes())
    print('\n' + table)
    assert all(size <= limit for _, size, limit in sizes()), table


def imported_parts(path: Path) -> set[str]:
    """The parts of the package that a module imports, wherever in the file it does so."""
    here = ['mmebm', *path.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split('.') for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            module = base + (node.module.split('.') if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == 'mmebm' and len(name) > 1}
    return found


@pytest.mark.parametrize('part', HEIGHT)
def test_nothing_imports_upwards(part):
    for path in (PACKAGE / part).rglob('*.py'):
        for other in imported_parts(path) - {part, 'version', 'options'}:
            assert HEIGHT[other] < HEIGHT[part], f'{path.relative_to(PACKAGE)} imports {other}'


def test_every_part_has_its_place():
    parts = {path.parent.name for path in PACKAGE.glob('*/__init__.py')} - {'.mim'}
    assert parts == set(HEIGHT)


def test_imports_are_found():
    """So that the tests above can fail."""
    assert imported_parts(PACKAGE / 'models' / 'base_algorithm.py') >= {'autograd', 'utils'}


class Arrived(BaseException):
    """The loss of the first iteration is there."""


def way(command, arguments: list[str]) -> list[str]:
    """The files of ``mmebm`` on the way of an image, from a command to the first loss.

    These are the files whose functions (1) are running when the first iteration calls the loss, or
    (2) were entered while a batch was loaded and its loss computed. Not on the way of an image:
    what imports and builds, what chooses options before the first iteration, and what ``engine``
    does around an iteration: hooks, precision, optimizer.
    """
    files, package, engine = set(), f'{PACKAGE}/', f'{PACKAGE}/engine/'

    def look(frame, event, arg):
        code = frame.f_code
        if event not in ('call', 'return') or not code.co_filename.startswith(package):
            return
        if code.co_filename.startswith(engine):
            return
        stack, names = [], set()
        while frame is not None:
            stack.append(frame.f_code.co_filename)
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        if '<module>' in (code.co_name, *names - {'<module>'}) or 'call_hook' in names:
            return
        training = 'run_iter' in names and code.co_name == 'loss'
        if training and event == 'return' and arg is not None:
            raise Arrived
        if training or names & {'run_iter', '__getitem__'}:
            files.add(code.co_filename)
        if training:
            files.update(name for name in stack if name.startswith(package))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        with pytest.raises(Arrived):
            command(arguments)
    finally:
        sys.setprofile(before)
    return sorted(str(Path(file).relative_to(PACKAGE)) for file in files)


@pytest.fixture
def photos(tmp_path):
    return write_noise(tmp_path / 'photos', dict(train=(0, 256), val=(0, 256)), 8, (64, 48))


def test_way_from_mmebm_pretrain(photos, tmp_path, tool_process):
    options = '--backbone timm/test_vit --image-size 32 --batch-size 2 --iterations 2 --workers 0'
    files = way(main, ['pretrain', str(photos), '--out', str(tmp_path / 'out'), *options.split()])
    assert 'models/energy_restoration.py' in files
    assert len(files) <= 14, '\n'.join(files)
    told = (ROOT / 'CONTRIBUTING.md').read_text()
    assert [file for file in files if file not in told] == []


def test_way_from_tools_train(photos, tmp_path, tool_process):
    options = [
        f'train_dataloader.dataset.data_root={photos}',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'model.compile_step=False',
    ]
    arguments = [str(CONFIG), '--work-dir', str(tmp_path), '--no-validate', '--cfg-options']
    files = way(load_tool('train').main, [*arguments, *options])
    assert 'models/energy_restoration.py' in files
    assert len(files) <= 10, '\n'.join(files)


def base_configs(path: Path) -> set[Path]:
    """The files of ``configs/_base_`` that a config inherits from, directly or not."""
    found = {path.resolve()} if '_base_' in path.parts else set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == '_base_':
            names = ast.literal_eval(node.value)
            for name in [names] if isinstance(names, str) else names:
                found |= base_configs(path.parent / name)
    return found


def test_configs_of_the_paper_have_few_bases():
    for path in ROOT.glob('configs/masking/*.py'):
        assert 0 < len(base_configs(path)) <= 4, path.name
