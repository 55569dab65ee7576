"""Write the tables and the plot of ``docs/small_data.md`` from ``docs/small_data.csv``.

python tools/benchmarks/small_data.py                           tables and plot again
python tools/benchmarks/small_data.py work_dirs/*/results.csv   with rows of these comparisons
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

from mmebm.benchmark.results import draw_results, result_table, summarised
from mmebm.utils.tables import markdown_table, write_csv

DOCS = Path(__file__).parents[2] / 'docs'
BEGIN, END = '<!-- written by tools/benchmarks/small_data.py -->', '<!-- until here -->'
REFERENCE = {'vit-mini-p4': 'energy-inpainting4-75-hog'}  # 6 epochs cost 1; others: energy-sr8
SAME = 'backbone', 'method', 'seed', 'split', 'protocol', 'pretraining_epochs'
CHOSEN = 'pretraining_lr', 'epochs', 'lr', 'layer_decay', 'layer'  # by validation


def main(paths: list[str], docs: Path = DOCS) -> None:
    """Take over rows that worked; a row that is measured again replaces the earlier one, one of the
    test images also if other values were chosen.
    """
    table, page, rows = docs / 'small_data.csv', docs / 'small_data.md', {}
    for path in (table, *paths):
        with open(path, newline='', encoding='utf-8') as file:
            for row in csv.DictReader(file):
                keys = SAME if row['split'] == 'test' else SAME + CHOSEN
                if not row.pop('failed', ''):
                    rows[tuple(row[key] for key in keys)] = row
    seconds, backbones = defaultdict(dict), defaultdict(list)
    for row in rows.values():
        reference = REFERENCE.get(row['backbone'], 'energy-sr8'), '6'
        if (row['method'], row['pretraining_epochs']) == reference:
            seconds[row['backbone'], row['device']][row['seed']] = float(row['pretraining_cpu_s'])
    for row in rows.values():
        place, cost = (row['backbone'], row['device']), float(row['pretraining_cpu_s'])
        if cost and place not in seconds:
            raise ValueError(f'{place} has no row of the method whose cost is 1')
        cost = cost and cost / mean(seconds[place].values())
        backbones[row['backbone']].append(dict(row, cost=cost * 3600))  # which summarised() divides
    write_csv(list(rows.values()), table)
    results = {backbone: summarised(found, 'cost') for backbone, found in backbones.items()}
    tables = '\n\n'.join(
        f'**{backbone}**\n\n{markdown_table(result_table(found, "CPU time"))}'
        for backbone, found in results.items()
    )
    before, _, rest = page.read_text('utf-8').partition(BEGIN)
    page.write_text(f'{before}{BEGIN}\n\n{tables}\n\n{END}{rest.partition(END)[2]}', 'utf-8')
    draw_results(results, 'CPU time').savefig(docs / 'images/small_data.png')


if __name__ == '__main__':
    main(sys.argv[1:])
