"""Evaluate frozen features by weighted k-nearest-neighbour classification of labelled images.

    knn.py CHECKPOINT DATA_ROOT          network of the config in the checkpoint
    knn.py CONFIG [CHECKPOINT] DATA_ROOT   network of a config, without a checkpoint random

DATA_ROOT holds a sub-folder per class in train/ and in test/ or val/.
"""

import sys
from pathlib import Path

from mmengine.logging import MMLogger

from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser
from mmebm.evaluation.features import FeatureExtractor, evaluate_knn, images_of


def main(argv: list[str] | None = None) -> int:
    parser = OneLineParser(description='Classify images by the nearest neighbours of features.')
    paths = 'CONFIG|CHECKPOINT [CHECKPOINT] DATA_ROOT'
    parser.add_argument('paths', nargs='+', metavar=paths, help='a config ends in .py')
    parser.add_argument('--k', nargs='+', type=int, default=[20], help='neighbours (default: 20)')
    parser.add_argument('--temperature', type=float, default=0.07, help='default: 0.07')
    parser.add_argument('--random', action='store_true', help='also evaluate random weights')
    parser.add_argument('--seed', type=int, default=0, help='seed of the random weights')
    parser.add_argument('--image-size', type=int, help="side in pixels; defaults to the backbone's")
    parser.add_argument('--max-images', type=int, help='number per part; defaults to all')
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--workers', type=int, help='data-loading processes')
    parser.add_argument('--device', help="'cpu', 'cuda', ... Defaults to the GPU if there is one")
    args = parser.parse_args(argv)
    *networks, args.data_root = args.paths
    config = networks.pop(0) if networks and networks[0].endswith('.py') else None
    if len(networks) > 1 or not (networks or config):
        parser.error(f'give {paths}, got {" ".join(args.paths)}')
    checkpoint = networks[0] if networks else None
    MMLogger.get_instance('knn', log_level='WARNING')  # else it logs every initialised tensor
    with one_line_errors('knn.py'):
        root = Path(args.data_root).expanduser()
        test = root / 'test' if (root / 'test').is_dir() else root / 'val'
        for weights in dict.fromkeys([checkpoint, None][: 1 + args.random]):
            network = FeatureExtractor(config or checkpoint, weights, args.device, args.seed)
            name = f'random (seed {args.seed})' if weights is None else Path(weights).name
            print(f'{name}: {network.filled or "random weights"}')
            size = (args.image_size,) * 2 if args.image_size else network.image_size
            options = dict(image_size=size, most=args.max_images, with_label=True)
            parts = [images_of(part, **options) for part in (root / 'train', test)]
            loading = dict(batch_size=args.batch_size, workers=args.workers)
            found = evaluate_knn(network, *parts, args.k, args.temperature, **loading)
            for k, (top1, top5) in found.items():
                print(f'{name}  k {k}  top-1 {top1:.2%}  top-5 {top5:.2%}')
    train, test = parts
    print(f'{len(train)} labelled images, {len(test)} queries, {len(train.CLASSES)} classes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
