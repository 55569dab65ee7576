"""Options are written once: parser and check come from a dataclass."""

import argparse
from dataclasses import dataclass

import pytest

from mmebm.options import add_options, check_options, given_options, option


@dataclass(frozen=True)
class Options:
    data: tuple[str, ...] = option(help='folders', flags=('data',))
    out: str = option(help='folder for 5 % of all')
    hours: float | None = option(None, 'length', above=0)
    rates: tuple[float, ...] = option((0.1, 0.3), 'rates', above=0, below=1)
    kinds: tuple[str, ...] | None = option(None, 'kinds', choices=('mask', 'noise'))
    keep: bool = option(False, 'keep it')
    compile_step: bool | None = option(None, 'compile', flags=('--compile',))
    seed: int = option(0, 'seed', low=0)

    __post_init__ = check_options


def parsed(command):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, Options)
    return given_options(Options, parser.parse_args(command.split()))


def test_a_command_line_and_a_call_give_the_same():
    given = dict(data=('a', 'b'), out='o')
    assert parsed('a b --out o') == Options(**given)
    assert parsed(
        'a b --out o --hours 2 --rates 0.2 --kinds noise --keep --no-compile --seed 3'
    ) == (
        Options(
            **given, hours=2, rates=[0.2], kinds=['noise'], keep=True, compile_step=False, seed=3
        )
    )
    with pytest.raises(argparse.ArgumentError, match='--seed'):
        parsed('a --out o --seed x')


@pytest.mark.parametrize(
    ('name', 'value', 'kind'),
    [
        ('hours', 0, ValueError),
        ('hours', float('nan'), ValueError),
        ('hours', '1', TypeError),
        ('rates', (0.5, 1.0), ValueError),
        ('rates', (), TypeError),
        ('kinds', ('mask', 'blur'), ValueError),
        ('kinds', 'mask', TypeError),
        ('seed', -1, ValueError),
        ('seed', True, TypeError),
        ('seed', None, TypeError),
    ],
)
def test_wrong_values_are_refused_by_name(name, value, kind):
    with pytest.raises(kind, match=rf'^{name} must be .*, got '):
        Options(**dict(data=['a'], out='o') | {name: value})
