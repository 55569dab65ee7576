"""Draws features.png from docs/notes/features.csv: python docs/images/features.py

Probe accuracy on the validation split against iterations and against CPU seconds of training, for
runs in batches of 32; the mean over seeds where there are several.
"""

import csv
from collections import defaultdict
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
# arm → label, colour, marker
ARMS = {
    'MAE, 75 %': ('MAE', 'tab:blue', 'o'),
    'MAE whose encoder sees the masked cells as grey, 75 %': (
        'MAE, encoder sees grey cells',
        'tab:blue',
        'x',
    ),
    'linear head (the paper), masks 50 %': ('ours, grey cells (the paper)', 'tab:red', 'x'),
    'masked cells hidden, linear head, 75 %': (
        'ours, masked cells hidden',
        'tab:red',
        'o',
    ),
    'masked cells hidden, linear head, Xavier start, 75 %': (
        'the same, Xavier start',
        'tab:green',
        'o',
    ),
    'masked cells hidden, norm of each token, normalised targets, 75 %': (
        'and token norm, normalised targets',
        'tab:orange',
        'o',
    ),
    'no energy: masked cells hidden, linear layer on their tokens, normalised targets, 75 %': (
        'no energy, masked cells hidden',
        'tab:gray',
        'o',
    ),
}


def main() -> None:
    runs = defaultdict(list)  # (arm, schedule, iterations) → rows, one per seed
    with open(HERE.parent / 'notes' / 'features.csv', newline='', encoding='utf-8') as file:
        for row in csv.DictReader(file):
            if row['batch'] == '32' and row['learning_rate'] == '0.003':
                runs[row['arm'], int(row['of']), int(row['iterations'])].append(row)
            elif row['arm'] == 'random network' and row['init'] == 'default':
                runs['random', 0, 0].append(row)
    start = mean(float(row['probe']) for row in runs['random', 0, 0])
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout='constrained')
    for arm, (label, colour, marker) in ARMS.items():
        for i, schedule in enumerate(sorted({of for name, of, _ in runs if name == arm})):
            points = sorted(
                (n, rows) for (name, of, n), rows in runs.items() if (name, of) == (arm, schedule)
            )
            probes = [mean(float(r['probe']) for r in rows) for _, rows in points]
            seconds = [mean(float(r['cpu_s']) for r in rows) for _, rows in points]
            for axis, x in zip(axes, ([n for n, _ in points], seconds), strict=True):
                style = dict(color=colour, marker=marker, markersize=5, linewidth=1)
                axis.plot(x, probes, label=None if i else label, **style)
    for axis, name in zip(
        axes, ('iterations of 32 images', 'CPU seconds of training'), strict=True
    ):
        axis.axhline(start, color='black', linestyle=':', linewidth=1, label='random network')
        axis.set(xscale='log', xlabel=name)
        axis.spines[['top', 'right']].set_visible(False)
    axes[0].set_ylabel('linear probe, %')
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(HERE / 'features.png', dpi=120)


if __name__ == '__main__':
    main()
