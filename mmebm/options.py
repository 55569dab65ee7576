"""Options, written once as the fields of a dataclass: parser, check and docs come from them.

Imports nothing heavy, for ``--help``.
"""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, field, fields
from math import isfinite
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args, get_type_hints


def option(
    default: Any = MISSING,
    help: str = '',
    *,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] | None = None,
    flags: Sequence[str] = (),
    metavar: str | None = None,
    group: str = '',
) -> Any:
    """A field of a dataclass of options.

    Its annotation is ``int``, ``float``, ``str``, ``bool``, ``X | None``, or ``tuple[X, ...]`` for
    one or more values. ``bool | None`` makes ``--name`` and ``--no-name``.

    Args:
        default: without one it is required.
        help: in plain words, ≤ 80 columns as argparse wraps it; the default is added.
        low, above, below: limits: ≥ low, > above, < below; of each value.
        choices: allowed values.
        flags: on the command line, the first one in the docs; ``--name`` if none is given. One
            without dashes, equal to the field's name, makes it positional.
        metavar: as in argparse.
        group: heading under which the help shows it.
    """
    metadata = dict(
        help=help, low=low, above=above, below=below, choices=choices, flags=flags, group=group,
        metavar=metavar,
    )  # fmt: skip
    return field(default=default, metadata=metadata)


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """Give a parser the options of a dataclass."""
    groups = {'': parser}
    for each, kind, many, optional in _described(options):
        data = each.metadata
        flags = flags_of(each)
        arguments = dict(help=help_of(each).replace('%', '%%'))
        if flags[0].startswith('-'):
            arguments |= dict(dest=each.name, required=each.default is MISSING)
            arguments['default'] = None if each.default is MISSING else each.default
        if kind is bool:
            arguments['action'] = argparse.BooleanOptionalAction if optional else 'store_true'
        else:
            arguments |= dict(type=kind, metavar=data['metavar'], choices=data['choices'])
            if many:
                arguments['nargs'] = '+'
        if data['group'] not in groups:
            groups[data['group']] = parser.add_argument_group(data['group'])
        groups[data['group']].add_argument(*flags, **arguments)


def given_options(options: type, args: argparse.Namespace) -> Any:
    """The dataclass filled from parsed arguments."""
    return options(**{each.name: getattr(args, each.name) for each in fields(options)})


def check_options(options: Any) -> None:
    """Check each value's type and limits; for ``__post_init__``. Lists become tuples.

    Raises:
        TypeError: a value of another type.
        ValueError: one out of its limits; names the option, the value and what is allowed.
    """
    for each, kind, many, optional in _described(type(options)):
        value, data = getattr(options, each.name), each.metadata
        if value is None and optional:
            continue
        if many and (isinstance(value, str) or not isinstance(value, Sequence) or not value):
            raise TypeError(f'{each.name} must be a list of at least one value, got {value!r}')
        values = tuple(value) if many else (value,)
        for one in values:
            allowed = _allowed(kind, data)
            accepted = {int: Integral, float: Real}.get(kind, kind)
            if not isinstance(one, accepted) or (isinstance(one, bool) and kind is not bool):
                raise TypeError(f'{each.name} must be {allowed}, got {one!r}')
            limits = (('low', float.__ge__), ('above', float.__gt__), ('below', float.__lt__))
            outside = kind in (int, float) and not (
                isfinite(one)
                and all(data[k] is None or test(float(one), float(data[k])) for k, test in limits)
            )
            if outside or (data['choices'] and one not in data['choices']):
                from .utils import nearest_name

                near = nearest_name(one, data['choices']) if data['choices'] else ''
                raise ValueError(f'{each.name} must be {allowed}, got {one!r}{near}')
        object.__setattr__(options, each.name, values if many else value)


def options_table(options: type) -> str:
    """The options as a Markdown table, for the docs."""
    rows = [f'| `{flags_of(each)[0]}` | {help_of(each)} |' for each in fields(options)]
    return '\n'.join(['| option | what it does |', '| --- | --- |', *rows])


def flags_of(each: Any) -> Sequence[str]:
    """The flags of a field on the command line."""
    return each.metadata['flags'] or (f'--{each.name.replace("_", "-")}',)


def help_of(each: Any) -> str:
    """A field's help, with its default."""
    default = each.default
    if default is MISSING or default is None or isinstance(default, bool):
        return each.metadata['help']
    shown = ' '.join(map(str, default)) if isinstance(default, tuple) else default
    return f'{each.metadata["help"]} (default: {shown})'


def _described(options: type) -> list[tuple[Any, type, bool, bool]]:
    """Each field with the type of a value, whether it takes several, and whether it may be None."""
    hints, found = get_type_hints(options), []
    for each in fields(options):
        kinds = get_args(hints[each.name]) or (hints[each.name],)
        many = any(kind is Ellipsis or Ellipsis in get_args(kind) for kind in kinds)
        inner = [kind for kind in kinds if kind not in (NoneType, Ellipsis)][0]
        found.append((each, (get_args(inner) or (inner,))[0], many, NoneType in kinds))
    return found


def _allowed(kind: type, data: dict) -> str:
    if data['choices']:
        return f'one of {", ".join(map(str, data["choices"]))}'
    names = {int: 'an integer', float: 'a finite number', bool: 'True or False', str: 'a str'}
    signs = dict(low='≥', above='>', below='<')
    limits = ' and '.join(f'{signs[k]} {data[k]}' for k in signs if data[k] is not None)
    return f'{names[kind]} {limits}'.strip()
