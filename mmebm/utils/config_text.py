"""Read the config text inside a checkpoint without running it."""

import ast
import re
from pathlib import Path

from mmengine.config import ConfigDict

# A registered name may carry its registry's scope; any other dotted type would be imported.
_SCOPED_NAME = re.compile(r'(mmpretrain|mmseg)\.\w+')


def parse_config_text(text: str) -> ConfigDict:
    """Parse what MMEngine writes into ``checkpoint['meta']['cfg']``: literals and ``dict(...)``.

    MMEngine's own ``Config.fromstring`` executes the text, and a registry imports whatever a dotted
    ``type`` names; neither is safe for a file from somebody else.

    Args:
        text: assignments of literals, as in ``Config.pretty_text``.

    Raises:
        ValueError: the text holds anything else, or a ``type`` that names a module to import.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the parser's limits
        raise ValueError(f'the config in the checkpoint is not readable: {error}') from error
    config = {}
    for statement in statements:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            raise _not_run(statement)
        config[statement.targets[0].id] = _literal(statement.value)
    return ConfigDict(config)


def config_inside(checkpoint: dict, name: str | Path) -> ConfigDict:
    """The config inside a loaded checkpoint, parsed, never executed.

    Args:
        checkpoint: what the file holds.
        name: of the file, for the message.

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


def _literal(node: ast.expr):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise _not_run(node)
        return _checked({keyword.arg: _literal(keyword.value) for keyword in node.keywords})
    if isinstance(node, ast.Dict):
        if None in node.keys:  # **
            raise _not_run(node)
        pairs = zip(node.keys, node.values, strict=True)
        try:
            return _checked({_literal(key): _literal(value) for key, value in pairs})
        except TypeError as error:  # what cannot be a key
            raise _not_run(node) from error
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, RecursionError) as error:
        raise _not_run(node) from error


def _not_run(node: ast.AST) -> ValueError:
    text = ast.unparse(node)
    return ValueError(f'the config in the checkpoint holds code that is not run: {text}')


def _checked(config: dict) -> dict:
    kind = config.get('type')
    if isinstance(kind, str) and '.' in kind and not _SCOPED_NAME.fullmatch(kind):
        raise ValueError(
            f'the config in the checkpoint names type={kind!r}, an import, not a registered name'
        )
    return config
