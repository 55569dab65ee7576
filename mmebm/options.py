"""Options, written once as the fields of a dataclass: parser and check come from them.

Imports nothing heavy, for ``--help``.
"""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from math import isfinite
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args, get_type_hints

_LIMITS = dict(low=('≥', float.__ge__), above=('>', float.__gt__), below=('<', float.__lt__))
_NAMES = {int: 'an integer', float: 'a finite number', bool: 'True or False', str: 'a str'}


def option(default: Any = MISSING, help: str = '', flags: Sequence[str] = (), **limits: Any) -> Any:
    """A field of a dataclass of options.

    Its annotation is ``int``, ``float``, ``str``, ``bool``, ``X | None``, or ``tuple[X, ...]`` for
    one or more values. ``bool | None`` makes ``--name`` and ``--no-name``.

    Args:
        default: without one it is required.
        help: in plain words; choices and default are added.
        flags: on the command line; ``--name`` if none is given. One without dashes, equal to the
            field's name, makes it positional.
        **limits: ``low`` (≥), ``above`` (>), ``below`` (<), ``choices`` of a value; ``metavar``.
    """
    return field(default=default, metadata=dict(help=help, flags=flags, **limits))


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """Give a parser the options of a dataclass."""
    for each, kind, many, optional in _described(options):
        flags = flags_of(each)
        arguments = dict(help=help_of(each).replace('%', '%%'))
        if flags[0].startswith('-'):
            required = each.default is MISSING
            default = None if required else each.default
            arguments |= dict(dest=each.name, required=required, default=default)
        if kind is bool:
            arguments['action'] = argparse.BooleanOptionalAction if optional else 'store_true'
        else:
            shown = {int: 'N', float: 'X', str: each.name.upper()}[kind]
            arguments |= dict(type=kind, choices=each.metadata.get('choices'))
            arguments['metavar'] = each.metadata.get('metavar', shown)
            arguments |= dict(nargs='+') if many else {}
        parser.add_argument(*flags, **arguments)


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
        value, limits = getattr(options, each.name), each.metadata
        if value is None and optional:
            continue
        if many and (isinstance(value, str) or not isinstance(value, Sequence) or not value):
            raise TypeError(f'{each.name} must be a list of at least one value, got {value!r}')
        for one in value if many else [value]:
            bounds = [(*_LIMITS[key], limits[key]) for key in _LIMITS if key in limits]
            allowed = ' and '.join(f'{sign} {bound}' for sign, _, bound in bounds)
            allowed = f'{each.name} must be {_NAMES[kind]} {allowed}'.strip() + f', got {one!r}'
            accepted = {int: Integral, float: Real}.get(kind, kind)
            if not isinstance(one, accepted) or (isinstance(one, bool) and kind is not bool):
                raise TypeError(allowed)
            if 'choices' in limits and one not in limits['choices']:
                names = ', '.join(map(str, limits['choices']))
                raise ValueError(f'{each.name} must be one of {names}, got {one!r}')
            fits = all(test(float(one), float(bound)) for _, test, bound in bounds)
            if not fits or (kind is float and not isfinite(one)):
                raise ValueError(allowed)
        object.__setattr__(options, each.name, tuple(value) if many else value)


def flags_of(each: Field) -> Sequence[str]:
    """The flags of a field on the command line."""
    return each.metadata['flags'] or (f'--{each.name.replace("_", "-")}',)


def help_of(each: Field) -> str:
    """A field's help, with its choices and its default."""
    text, choices = each.metadata['help'], each.metadata.get('choices')
    text = f'{", ".join(map(str, choices))}: {text}' if choices else text
    if each.default is MISSING or each.default is None or isinstance(each.default, bool):
        return text
    shown = ' '.join(map(str, each.default)) if isinstance(each.default, tuple) else each.default
    return f'{text} (default: {shown})'


def _described(options: type) -> list[tuple[Field, type, bool, bool]]:
    """Each field with the type of a value, whether it takes several, and whether it may be None."""
    hints, found = get_type_hints(options), []
    for each in fields(options):
        kinds = get_args(hints[each.name]) or (hints[each.name],)
        many = any(kind is Ellipsis or Ellipsis in get_args(kind) for kind in kinds)
        inner = next(kind for kind in kinds if kind not in (NoneType, Ellipsis))
        found.append((each, (get_args(inner) or (inner,))[0], many, NoneType in kinds))
    return found
