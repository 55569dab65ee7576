"""tools/gpu.py on the CPU, its parts in this process."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmebm.cli.main import build_parser
from tests.tools import exit_code, load_tool

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu():
    return load_tool('gpu')


def replace(gpu, monkeypatch, run):
    """Only for this tool: other libraries start processes too."""
    kept = {name: getattr(subprocess, name) for name in ('DEVNULL', 'STDOUT', 'TimeoutExpired')}
    monkeypatch.setattr(gpu, 'subprocess', SimpleNamespace(run=run, **kept))


@pytest.mark.slow
def test_dry_run(gpu, tmp_path, monkeypatch, capsys):
    ran = []

    def run(command, **options):
        script = Path(command[1])
        ran.append(command)
        assert options['env']['MMEBM_DEVICE'] == 'cpu'
        assert options['env']['PYTHONPATH'].split(':')[0] == str(ROOT)
        if command[1] == '-m':  # these tests are in this suite
            assert Path(command[5]).is_file()
            return SimpleNamespace(returncode=0)
        monkeypatch.syspath_prepend(script.parent)
        tool = load_tool(str(script.relative_to(ROOT / 'tools').with_suffix('')))
        return SimpleNamespace(returncode=tool.main(command[2:]))

    replace(gpu, monkeypatch, run)
    assert gpu.main(['--device', 'cpu', '--tiny', '--out', str(tmp_path)]) == 0
    assert len(ran) == 2
    lines = (tmp_path / 'summary.md').read_text().splitlines()
    assert lines[0].endswith(f'torch {torch.__version__}')
    assert [line.split(',')[0] for line in lines[2:4]] == ['- tests: passed', '- speed: passed']
    assert lines[5].startswith('- vit-tiny, supervised, float32: ')
    assert lines[6].startswith('- vit-tiny, ours, float32: ')
    assert ' TFLOP/s' in lines[6]
    assert (tmp_path / 'speed' / 'speed.png').is_file()


def test_real_commands_are_accepted(gpu, tmp_path):
    """What the GPU will be asked for, by the parsers of the tools."""
    (tmp_path / 'train').mkdir()
    args = gpu.parse_args(['--device', 'cpu', '--data', str(tmp_path), '--out', str(tmp_path)])
    commands = gpu.parts(args, tmp_path)
    assert list(commands) == ['tests', 'speed', 'comparison']
    assert sum(min(seconds, gpu.LIMIT) for _, seconds in commands.values()) > gpu.LIMIT
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / 'tools/benchmarks')
        speed = load_tool('benchmarks/benchmark_speed').parse_args(commands['speed'][0][2:])
    compare = build_parser().parse_args(commands['comparison'][0][3:])
    assert speed.models == ['vit-small', 'vit-base']
    assert speed.batch_size == 128
    assert 'energy-mixed' in compare.methods


def test_a_part_that_fails_or_takes_too_long(gpu, tmp_path, monkeypatch):
    def late(*_, timeout, **__):
        raise subprocess.TimeoutExpired('command', timeout)

    results = iter([lambda *_, **__: SimpleNamespace(returncode=3), late])
    replace(gpu, monkeypatch, lambda *a, **k: next(results)(*a, **k))
    assert gpu.main(['--device', 'cpu', '--tiny', '--out', str(tmp_path)]) == 1
    text = (tmp_path / 'summary.md').read_text()
    assert 'tests: failed with exit code 3' in text
    assert 'speed: stopped after 240 s' in text


def test_share_of_the_peak(gpu, tmp_path):
    (tmp_path / 'speed').mkdir()
    row = dict(model='vit-small', step='ours', precision='bfloat16', megabytes=10.0)
    row |= dict(images_per_second=1000.0, teraflops=98.9)
    (tmp_path / 'speed' / 'speed.json').write_text(gpu.json.dumps(dict(rows=[row])))
    (line,) = gpu.figures(tmp_path, 'NVIDIA H100 80GB HBM3')
    assert line.endswith('1e+03 images/s, 10 MB, 98.9 TFLOP/s, 10.0% of the peak')
    (line,) = gpu.figures(tmp_path, 'NVIDIA A100-SXM4-80GB')
    assert line.endswith('31.7% of the peak')
    (line,) = gpu.figures(tmp_path, 'another')
    assert line.endswith('98.9 TFLOP/s')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ('--devise cpu', 'unrecognized arguments: --devise cpu'),
        ('--device tpu', "invalid choice: 'tpu'"),
        ('--device cpu --only comparison', '--only comparison needs --data'),
        ('--device cpu --data {gone}', '--data: {gone} has no sub-folder train'),
        ('--device cpu --wheels {gone}', '--wheels: no wheel in {gone}'),
        ('--device cpu --out {file}/below', '--out {file}/below: Not a directory'),
        pytest.param(
            '',
            'torch finds no GPU',
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU'),
        ),
    ],
)
def test_bad_options(gpu, tmp_path, capsys, options, message):
    places = dict(gone=tmp_path / 'gone', file=tmp_path / 'file')
    places['file'].touch()
    if '--out' not in options:
        options += f' --out {places["gone"]}'
    assert exit_code(gpu.main, options.format(**places).split()) == 2
    error = capsys.readouterr().err
    assert error.startswith('gpu.py: error: ')
    assert error.count('\n') == 1
    assert message.format(**places) in error
    assert list(tmp_path.iterdir()) == [places['file']]
