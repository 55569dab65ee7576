"""``mmebm pretrain`` on the command line."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mmebm.cli.main import main
from mmebm.pretraining import run
from mmebm.pretraining.options import PretrainOptions
from tests.processes import CONTEXT, LIMIT

DATA = str(Path(__file__).parent), str(Path(__file__).parents[1])  # folders that exist
COMMAND = f'pretrain {" ".join(DATA)} --backbone timm/test_vit --out out'


def test_options_are_handed_on(monkeypatch):
    got = {}
    monkeypatch.setattr(run, 'pretrain', lambda **options: got.update(options))
    assert main(COMMAND.split()) == 0
    assert callable(got.pop('say'))
    plain = dict(data=DATA, backbone='timm/test_vit', out='out')
    assert PretrainOptions(**got) == PretrainOptions(**plain)
    assert main(f'{COMMAND} --lr 0.1 --steps 2 --no-compile --corruption masking'.split()) == 0
    got.pop('say')
    given = dict(learning_rate=0.1, num_steps=2, compile_step=False, corruption='masking')
    assert PretrainOptions(**got) == PretrainOptions(**plain, **given)


# What torchrun starts instead of Python: it tells what it was given, and behaves as a rank may.
RANK = """#!/bin/sh
echo "$RANK of $WORLD_SIZE: $*" >> {said}
trap 'echo stopped >> {said}; exit 130' INT
{then}
"""
WAITS = 'i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done'


def command(interpreter, said):
    os.setsid()
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ['PYTHON_EXEC'] = interpreter
    sys.argv = ['mmebm', *COMMAND.split(), '--gpus', '2']
    sys.exit(main(sys.argv[1:]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('then', 'code', 'last'),
    [
        ('exit 0', 0, ''),
        ('[ $RANK = 0 ] && exit 2; ' + WAITS, 2, ''),
        ('[ $RANK = 1 ] && kill -9 $$; ' + WAITS, 2, 'killed by signal 9, probably out of memory'),
        ('touch {said}$RANK; ' + WAITS, 130, 'stopped'),
    ],
)
def test_gpus_starts_torchrun(tmp_path, then, code, last):
    """torchrun itself is real, and so are signals and exit codes."""
    said, script = tmp_path / 'said', tmp_path / 'rank'
    script.write_text(RANK.format(said=said, then=then.format(said=said)))
    script.chmod(0o755)
    process = CONTEXT.Process(target=command, args=(str(script), str(said)))
    process.start()
    if code == 130:
        while process.is_alive() and not all(
            (tmp_path / f'said{rank}').exists() for rank in range(2)
        ):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
    process.join(LIMIT)
    lines = said.read_text().splitlines()
    assert process.exitcode == code, lines
    for rank in range(2):
        assert f'{rank} of 2: -u -m mmebm {COMMAND} --gpus 2' in lines
    assert last in lines[-1]
    assert not any('Traceback' in line for line in lines)
    assert len(lines) <= 4
