"""Read the config text inside a checkpoint without running it."""

import ast
import re
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict

# A registered name may carry its registry's scope; any other dotted type would be imported.
_SCOPED_NAME = re.compile(r'(mmpretrain|mmseg)\.\w+')


def parse_config_text(text: str) -> ConfigDict:
    """Parse what MMEngine writes into ``checkpoint['meta']['cfg']``: literals and ``dict(...)``.

    MMEngine's own ``Config.fromstring`` executes the text, and a registry imports whatever a dotted
    ``type`` names; neither is safe for a file from somebody else.

    Raises:
        ValueError: the text holds anything else, or a ``type`` that names a module to import.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the parser's limits
        raise ValueError(f'the config in the checkpoint is not readable: {error}') from error
    config = {}
    for statement in statements:
        target = getattr(statement, 'targets', [None])[0]
        try:
            if not isinstance(target, ast.Name):
                raise ValueError
            value = ast.literal_eval(_DictsAsLiterals().visit(statement.value))
        except (ValueError, TypeError, RecursionError) as error:
            code = ast.unparse(statement)
            raise ValueError(f'the config in the checkpoint holds code, not run: {code}') from error
        _check_types(value)
        config[target.id] = value
    return ConfigDict(config)


def config_inside(checkpoint: dict, name: str | Path) -> ConfigDict:
    """The config inside a loaded checkpoint, parsed, never executed; ``name`` is its file's.

    Raises:
        ValueError: there is none, or it holds more than literals.
    """
    text = checkpoint.get('meta', {}).get('cfg')
    if not isinstance(text, str):
        raise ValueError(f'{name} holds no config: give the one it was trained with')
    try:
        return parse_config_text(text)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from error


class _DictsAsLiterals(ast.NodeTransformer):
    """``dict(a=1)`` becomes ``{'a': 1}``; whatever else is called stays, and is no literal."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        names = [keyword.arg for keyword in node.keywords]
        if ast.unparse(node.func) != 'dict' or node.args or None in names:
            return node
        return ast.Dict([ast.Constant(n) for n in names], [k.value for k in node.keywords])


def _check_types(value: Any) -> None:
    inner = value.values() if isinstance(value, dict) else value
    for item in inner if isinstance(value, dict | list | tuple) else ():
        _check_types(item)
    kind = value.get('type') if isinstance(value, dict) else None
    if isinstance(kind, str) and '.' in kind and not _SCOPED_NAME.fullmatch(kind):
        raise ValueError(
            f'the config in the checkpoint names type={kind!r}, an import, not a registered name'
        )
