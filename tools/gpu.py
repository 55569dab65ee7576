"""Try everything on a GPU in under nine minutes, and leave one folder.

make gpu                                     # or: python tools/gpu.py --out work_dirs/gpu
python tools/gpu.py --wheels FOLDER          # of tools/misc/offline_wheels.sh, without a registry
python tools/gpu.py --device cpu --tiny      # the same on a CPU, with the smallest networks

Needs Python >= 3.10 with torch, torchvision and timm. In turn: the tests marked cuda, the speed of
ViT-S and ViT-B at batch 128, and the comparison of methods on small images (--data), for what time
is left. summary.md says how each of them ended; each has its output beside it.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 520  # seconds for all of it

# Dense tensor-core TFLOP/s of half precision, from the makers' data sheets.
PEAKS = {'H100': 989, 'H200': 989, 'A100': 312, 'L40S': 362, 'L4': 121, 'A10': 125, 'V100': 125}


def install(wheels: Path, site: Path) -> None:
    """Unpack wheels into a folder of their own; the environment stays as it is."""
    files = sorted(map(str, wheels.glob('*.whl')))
    command = [sys.executable, '-m', 'pip', 'install', '-q', '--no-index', '--no-deps']
    subprocess.run([*command, '--no-compile', '--target', str(site), *files], check=True)


def parts(args: argparse.Namespace, out: Path) -> dict[str, tuple[list[str], float]]:
    """Name → command and the most seconds that it may take."""
    benchmarks = ROOT / 'tools/benchmarks'
    device = ['--device', args.device]
    tests = ['-m', 'pytest', '-p', 'no:cacheprovider', ROOT / 'tests/test_device.py', '-m', 'cuda']
    if args.tiny:
        tests[-1] += ' and not slow'
        tests += ['-k', 'noise or nearest']
    speed = [benchmarks / 'benchmark_speed.py', *device, '--out', out / 'speed']
    if args.tiny:
        speed += ['--models', 'vit-tiny', '--batch-size', '1', '--image-size', '32']
        speed += ['--repeats', '1', '--precisions', 'float32', '--steps', 'supervised', 'ours']
    else:
        speed += ['--models', 'vit-small', 'vit-base', '--batch-size', '128']
        speed += ['--precisions', 'bfloat16', '--repeats', '10']
        speed += ['--steps', 'supervised', 'Listing 1', 'ours', 'ours, compiled', 'MAE']
    found = {'tests': (tests, 200), 'speed': (speed, 240)}
    if args.data:
        compare = ['-m', 'mmebm', 'benchmark', args.data, '--out', out / 'comparison']
        compare += ['--methods', 'scratch', 'energy-mixed', 'mae', '--pretraining-epochs', '10']
        compare += ['--epochs', '10', '--pretraining-lrs', '1e-3', '--lrs', '1e-3']
        compare += ['--layer-decays', '0.75']
        found['comparison'] = compare, LIMIT
    commands = {n: ([sys.executable, *map(str, c)], seconds) for n, (c, seconds) in found.items()}
    return {n: commands[n] for n in args.only or commands if n in commands}


def run(command: list[str], output: Path, seconds: float, environment: dict) -> str:
    """Run a command, its output into a file: how it ended."""
    with output.open('w') as file:
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return f'stopped after {seconds:.0f} s'
    return 'passed' if done.returncode == 0 else f'failed with exit code {done.returncode}'


def figures(out: Path, card: str) -> list[str]:
    """A line per measured step: images per second, memory, and the share of the card's peak."""
    file = out / 'speed/speed.json'
    if not file.is_file():
        return []
    words = card.replace('-', ' ').split()
    peak = next((peak for name, peak in PEAKS.items() if name in words), None)
    lines = []
    for row in json.loads(file.read_text())['rows']:
        line = f'- {row["model"]}, {row["step"]}, {row["precision"]}: '
        line += f'{row["images_per_second"]:.3g} images/s, {row["megabytes"]:.0f} MB'
        if row['teraflops'] is not None:
            line += f', {row["teraflops"]:.3g} TFLOP/s'
            line += '' if peak is None else f', {row["teraflops"] / peak:.1%} of the peak'
        lines.append(line)
    return lines


class Parser(argparse.ArgumentParser):
    """Errors are one line. mmebm's own parser needs what may not be installed yet."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'gpu.py: error: {message}\n')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/gpu'), help='the folder')
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda')
    parser.add_argument('--tiny', action='store_true', help='the smallest form, to try this script')
    parser.add_argument('--wheels', type=Path, help='folder of wheels of what is not installed')
    parser.add_argument('--data', type=Path, help='folder of CIFAR-10, for the comparison')
    names = ['tests', 'speed', 'comparison']
    parser.add_argument('--only', nargs='+', choices=names, help='some of the parts')
    args = parser.parse_args(argv)
    if args.wheels is not None and not any(args.wheels.glob('*.whl')):
        parser.error(f'--wheels: no wheel in {args.wheels}')
    if args.data is None and 'comparison' in (args.only or ()):
        parser.error('--only comparison needs --data, a folder of CIFAR-10')
    if args.data is not None and not (args.data / 'train').is_dir():
        parser.error(f'--data: {args.data} has no sub-folder train')
    if args.device == 'cuda' and not cuda_is_available():
        parser.error('torch finds no GPU; --device cpu --tiny tries it')
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f'--out {args.out}: {error.strerror}')
    return args


def cuda_is_available() -> bool:
    import torch

    return torch.cuda.is_available()


def main(argv: list[str] | None = None) -> int:
    """Run all parts; 0 if all passed, 1 if not."""
    args = parse_args(argv)
    import torch

    begin, out = time.monotonic(), args.out.resolve()
    paths = [str(ROOT)]
    if args.wheels is not None:
        install(args.wheels, out / 'site')
        paths.append(str(out / 'site'))
    paths += filter(None, [os.environ.get('PYTHONPATH')])
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths), MMEBM_DEVICE=args.device)
    card = torch.cuda.get_device_name() if args.device == 'cuda' else platform.processor() or 'CPU'
    lines, results = [f'# {card}, torch {torch.__version__}', ''], []
    for name, (command, seconds) in parts(args, out).items():
        left = LIMIT - (time.monotonic() - begin)
        start = time.monotonic()
        how = 'not begun: no time is left'
        if left > 30:
            how = run(command, out / f'{name}.txt', min(seconds, left), environment)
        results.append(how)
        lines.append(f'- {name}: {how}, {time.monotonic() - start:.0f} s, {name}.txt')
        print(lines[-1], flush=True)
        (out / 'summary.md').write_text('\n'.join(lines) + '\n')
    lines += ['', *figures(out, card)]
    (out / 'summary.md').write_text('\n'.join(lines) + '\n')
    print(f'Look at {out / "summary.md"}')
    return int(any(how.startswith('failed') for how in results))


if __name__ == '__main__':
    sys.exit(main())
