"""Configs as text: literals are read, code is refused."""

import pytest
from mmengine.config import Config

from mmebm.utils.config_text import config_inside, parse_config_text


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('import os', 'code, not run: import os'),
        ('x.y = 1', 'code, not run: .*x.y = 1'),
        ('x = dict([1])', r'code, not run: .*dict\(\[1\]\)'),
        ('x = dict(**y)', r'code, not run: .*dict\(\*\*y\)'),
        ('x = {**y}', r'code, not run: .*\{\*\*y\}'),
        ('x = {[1]: 2}', r'code, not run: .*\{\[1\]: 2\}'),
        ('x = {([],): 2}', 'code, not run: .*'),
        ('x = open("y")', 'code, not run: .*open'),
        ('x = dict(type="os.system")', "type='os.system', an import"),
        ('x = dict(y=[[].z])', r'code, not run: .*\[\]\.z'),
        ('x = a + b', 'code, not run: .*a \\+ b'),
        ('x = (', 'not readable'),
        ('x = ' + '-' * 100_000 + '1', 'not readable'),
    ],
)
def test_code_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_config_text(text)


def test_literals_are_read():
    text = "a = dict(type='mmseg.X', b=[1, (2, None)], c={-1: -1.5})\na['e'] = 1"
    with pytest.raises(ValueError, match='code, not run'):
        parse_config_text(text)
    expected = dict(a=dict(type='mmseg.X', b=[1, (2, None)], c={-1: -1.5}))
    assert parse_config_text(text.splitlines()[0]) == expected
    ours = dict(
        a='\'"\\ \n\t{}#ä山\0', b=[1e-300, -0.0, 10**20, None, True, (), [], ({},), ('x',)],
        c=dict(d=dict(e=[dict(f='g = h()')], _i=False), in_=''), dict=dict(type='X'),
    )  # fmt: skip
    assert parse_config_text(Config(ours).pretty_text) == ours


def test_the_file_is_named():
    with pytest.raises(ValueError, match=r'x\.pth holds no config'):
        config_inside({}, 'x.pth')
    with pytest.raises(ValueError, match=r'x\.pth: the config in the checkpoint'):
        config_inside(dict(meta=dict(cfg='x')), 'x.pth')
