"""The results of a comparison: the choice on validation images, the table and the figure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAST_LAYER = 'probe-last'  # the probe of the last layer, not of the best one
CONTRAST = 'contrast'  # of the last layer's features; no accuracy
LEAST_HEIGHT = 10  # of a panel, in %: a difference within the error shall not look large
PROTOCOLS = 'finetune', 'probe', LAST_LAYER, 'knn', CONTRAST  # in the order of columns
# (method, epochs of pretraining) → protocol → accuracies in %, one per seed; 'hours' of pretraining
Results = dict[tuple[str, int], dict[str, list[float]]]


def choose(rows: Sequence[dict], protocols: Sequence[str]) -> dict[str, dict]:
    """The row with the highest validation accuracy per protocol, without failed runs.

    The first protocol chooses the pretraining learning rate; ties go to the earlier row.
    """
    kept = [row for row in rows if not row['failed']]
    chosen = {}
    for protocol in protocols:
        found = [row for row in kept if row['protocol'] == protocol]
        if found:
            best = chosen[protocol] = max(found, key=lambda row: row['accuracy'])
            kept = [row for row in kept if row['pretraining_lr'] == best['pretraining_lr']]
    return chosen


def failure(row: Mapping) -> str:
    return f'{row["method"]}, seed {row["seed"]}, {row["protocol"]}: {row["failed"]}'


def summarised(rows: Sequence[Mapping], seconds: str = 'pretraining_cpu_s') -> Results:
    """Test rows of results.csv, numbers or text, without failed runs; ``seconds`` is their cost."""
    results: Results = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row['split'] == 'test' and not row.get('failed'):
            found = results[row['method'], int(row['pretraining_epochs'])]
            found[row['protocol']].append(float(row['accuracy']))
            found['hours'].append(float(row[seconds]) / 3600)
    return results


def standard_error(values: Sequence[float]) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def result_table(results: Results, compute: str) -> list[list[str]]:
    """Lines of cells for :func:`mmebm.utils.tables.markdown_table`: means ± standard errors."""

    def cell(protocol: str, values: Sequence[float]) -> str:
        digits = 2 if protocol == CONTRAST else 1
        error = f' ± {standard_error(values):.{digits}f}' if len(values) > 1 else ''
        return f'{mean(values):.{digits}f}{error}' if values else ''

    shown = [p for p in PROTOCOLS if any(p in found for found in results.values())]
    lines = [['method', 'epochs', 'seeds', compute, *shown], ['---', *['---:'] * (3 + len(shown))]]
    for (method, epochs), found in results.items():
        cells = [cell(p, found.get(p, [])) for p in shown]
        seeds = max(len(found.get(p, [])) for p in shown)
        lines.append([method, str(epochs), str(seeds), f'{mean(found["hours"]):.3g}', *cells])
    return lines


def draw_results(results: Mapping[str, Results], compute: str) -> 'Figure':
    """Accuracy against the compute of pretraining, whose unit is given: a row of panels for each
    backbone, a panel for each protocol.
    """
    from matplotlib.figure import Figure  # slow to import

    found = [measured for rows in results.values() for measured in rows.values()]
    shown = [p for p in ('finetune', 'probe', 'knn') if any(p in measured for measured in found)]
    methods = list(dict.fromkeys(method for rows in results.values() for method, _ in rows))
    size = 4.5 * len(shown), 3.4 * len(results)
    figure = Figure(size, dpi=150, layout='constrained')
    parts = figure.subfigures(len(results), squeeze=False).flat
    for part, (backbone, rows) in zip(parts, results.items(), strict=True):
        part.suptitle(backbone)
        panels = part.subplots(1, len(shown), squeeze=False).flat
        for axes, protocol in zip(panels, shown, strict=True):
            axes.set(xlabel=f'{compute} of pretraining', ylabel=f'{protocol}, test, %')
            for place, method in enumerate(methods):
                found = [r for (m, _), r in rows.items() if m == method and protocol in r]
                y = [mean(r[protocol]) for r in found]
                x = [mean(r['hours']) for r in found]
                if any(x):
                    errors = [standard_error(r[protocol]) for r in found]
                    style = 'o-' if place < 7 else 's--'
                    axes.errorbar(x, y, errors, fmt=style, color=f'C{place % 7}', label=method)
                elif y:  # from scratch
                    axes.axhline(y[0], color='C7', linestyle=':', label=method)
                    error = standard_error(found[0][protocol])
                    axes.axhspan(y[0] - error, y[0] + error, color='C7', alpha=0.2)
            axes.set_xlim(0, 1.05 * axes.get_xlim()[1])
            low, high = axes.get_ylim()
            space = max(0.0, LEAST_HEIGHT - (high - low)) / 2
            axes.set_ylim(low - space, high + space)
        labels = axes.get_legend_handles_labels()
        part.legend(*labels, loc='outside right upper', fontsize='small', frameon=False)
    return figure
