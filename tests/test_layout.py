"""The layout of the package: every part imports from those below it, none from those above."""

import ast
from pathlib import Path

import pytest

import mmebm

PACKAGE = Path(mmebm.__file__).parent
LAYERS = (
    ('utils',),
    ('autograd',),
    ('backbones',),
    ('corruptions', 'datasets'),
    ('models',),
    ('evaluation', 'visualization'),
    ('engine',),
    ('conversion', 'restorer'),
    ('apis',),
    ('cli',),
)
HEIGHT = {part: height for height, parts in enumerate(LAYERS) for part in parts}


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
        for other in imported_parts(path) - {part, 'version'}:
            assert HEIGHT[other] < HEIGHT[part], f'{path.relative_to(PACKAGE)} imports {other}'


def test_every_part_has_its_place():
    parts = {path.parent.name for path in PACKAGE.glob('*/__init__.py')} - {'.mim'}
    assert parts == set(HEIGHT)


def test_imports_are_found():
    """So that the tests above can fail."""
    assert imported_parts(PACKAGE / 'models' / 'base_algorithm.py') >= {'autograd', 'backbones'}
