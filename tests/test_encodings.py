"""Text files are UTF-8 whatever the locale: every call that opens one says so."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def unspecified(source: str) -> list[int]:
    """The lines of calls that take the encoding of the locale."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = getattr(call.func, 'attr', getattr(call.func, 'id', None))
        values = {a.value for a in call.args if isinstance(a, ast.Constant)}
        is_file = not call.args or isinstance(call.func, ast.Name) or values & {'r', 'w', 'a'}
        is_text = name in ('read_text', 'write_text') or (name == 'open' and is_file)
        said = values & {'utf-8', 'rb', 'wb', 'ab'} or 'encoding' in {k.arg for k in call.keywords}
        if is_text and not said:
            found.append(call.lineno)
    return found


def test_every_text_file_has_its_encoding():
    bad = "open(p)\np.open('a')\np.write_text('')\nopen(p, 'rb')\nImage.open(p)"
    assert unspecified(bad) == [1, 2, 3]
    files = [*ROOT.glob('mmebm/**/*.py'), *ROOT.glob('tools/**/*.py'), ROOT / 'setup.py']
    found = {str(file.relative_to(ROOT)): unspecified(file.read_text('utf-8')) for file in files}
    assert not {file: lines for file, lines in found.items() if lines}
