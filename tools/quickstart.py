"""Pretrain a small network by energy restoration for three minutes, and see what it restores.

python tools/quickstart.py                 # photographs from scikit-image
python tools/quickstart.py --data FOLDER   # your own images
"""

import argparse
from pathlib import Path

import numpy as np
import skimage.data
from mmengine.config import Config
from mmpretrain.registry import DATASETS
from PIL import Image
from rich.console import Console

import mmebm
from mmebm.cli.errors import one_line_errors
from mmebm.restorer import Damage, Restorer, draw_chains
from mmebm.utils.tables import print_table

CONFIG = next(Path(__file__).parents[1].glob('configs/quickstart/*.py'))


def write_photographs(folder: Path, side: int = 96) -> Path:
    """Cut photographs of scikit-image into squares that do not overlap."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('astronaut', 'chelsea', 'coffee', 'rocket', 'hubble_deep_field'):
        pixels = getattr(skimage.data, name)()
        for y in range(0, len(pixels) - side + 1, side):
            for x in range(0, pixels.shape[1] - side + 1, side):
                tile = Image.fromarray(pixels[y : y + side, x : x + side])
                tile.save(folder / f'{name}_{y}_{x}.png')
    return folder


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', help='folder of images (default: sample photographs)')
    parser.add_argument('--work-dir', type=Path, default='work_dirs/quickstart')
    parser.add_argument('--hours', type=float, default=0.05, help='length (default: 0.05)')
    args = parser.parse_args(argv)
    data = args.data or write_photographs(args.work_dir / 'photos')
    run = mmebm.pretrain(data, CONFIG, args.work_dir / 'run', hours=args.hours, image_size=48)
    dataset = DATASETS.build(Config.fromfile(run.config).val_dataloader.dataset)
    restorer, rows, shown = Restorer(run.checkpoint), [], []
    crops = [dataset[i]['inputs'][1].movedim(0, -1).numpy() for i in range(len(dataset))]
    crops.sort(key=np.std, reverse=True)  # a flat sky shows little
    for kind in restorer.corruption['corruptions']:
        chains = [restorer(x, Damage(corruption=kind, index=i)) for i, x in enumerate(crops)]
        errors = np.mean([10 ** (-chain.psnr[[0, -1]] / 10) for chain in chains], axis=0)
        before, after = -10 * np.log10(errors)
        rows.append([kind['type'], f'{before:.2f}', f'{after:.2f}', f'{after - before:+.2f}'])
        shown += chains[:2]
    Image.fromarray(draw_chains(shown, across=2)).save(args.work_dir / 'restored.png')
    print_table(Console(), ('PSNR in dB, held-out', 'corrupted', 'restored', 'gain'), rows)
    if any(row[-1].startswith('-') for row in rows):
        print('Where the gain is negative it needs longer: --hours 0.2 in another --work-dir')
    print(f'Look at {args.work_dir / "restored.png"}')


if __name__ == '__main__':
    with one_line_errors('quickstart.py', 'run the same command again to continue'):
        main()
