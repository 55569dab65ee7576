"""The results of a comparison: rows of measurements, their table and their figure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAST_LAYER = 'probe-last'  # the probe of the last layer, not of the best one
NAMES = {  # in the order of columns
    'finetune': 'finetuning',
    'probe': 'linear probe',
    LAST_LAYER: 'linear probe, last layer',
    'knn': 'kNN',
}


class Result(NamedTuple):
    """A method at one length of pretraining, over all seeds.

    Hours are of pretraining, the mean over the seeds; accuracies are protocol → % of each seed.
    """

    method: str
    epochs: int
    hours: float
    accuracies: dict[str, list[float]]


def choose(rows: Sequence[dict], protocols: Sequence[str]) -> dict[str, dict]:
    """The row with the highest validation accuracy per protocol, at one pretraining learning rate.

    The first protocol chooses that rate; ties go to the earlier row. Rows of failed runs are passed
    over, and so is a protocol without any other.
    """
    kept = [row for row in rows if not row['failed']]
    chosen = {}
    for protocol in protocols:
        found = [row for row in kept if row['protocol'] == protocol]
        if found:
            best = chosen[protocol] = max(found, key=lambda row: row['accuracy'])
            kept = [row for row in kept if row['pretraining_lr'] == best['pretraining_lr']]
    return chosen


def summarised(rows: Sequence[Mapping], seconds: str = 'pretraining_cpu_s') -> list[Result]:
    """Bring the seeds of the test images together, without runs that failed.

    Args:
        rows: of results.csv.
        seconds: the column with the cost of pretraining.
    """
    accuracies: dict = defaultdict(lambda: defaultdict(list))
    cost: dict = defaultdict(dict)
    for row in rows:
        if row['split'] == 'test' and not row.get('failed'):
            run = row['method'], row['pretraining_epochs']
            accuracies[run][row['protocol']].append(row['accuracy'])
            cost[run][row['seed']] = row[seconds]
    return [Result(*run, mean(cost[run].values()) / 3600, accuracies[run]) for run in accuracies]


def failure(row: Mapping) -> str:
    return f'{row["method"]}, seed {row["seed"]}, {row["protocol"]}: {row["failed"]}'


def standard_error(values: Sequence[float]) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def result_table(results: Sequence[Result], compute: str) -> list[list[str]]:
    """Lines of cells for :func:`mmebm.utils.tables.markdown_table`: means ± standard errors."""

    def cell(values: Sequence[float]) -> str:
        error = f' ± {standard_error(values):.1f}' if len(values) > 1 else ''
        return f'{mean(values):.1f}{error}' if values else ''

    shown = [p for p in NAMES if any(p in result.accuracies for result in results)]
    head = ['method', 'epochs', 'seeds', compute, *(NAMES[p] for p in shown)]
    lines = [head, ['---', *['---:'] * (len(head) - 1)]]
    for r in results:
        seeds = max(map(len, r.accuracies.values()))
        cells = [cell(r.accuracies.get(p, [])) for p in shown]
        lines.append([r.method, str(r.epochs), str(seeds), f'{r.hours:.3g}', *cells])
    return lines


def draw_results(results: Sequence[Result], compute: str) -> 'Figure':
    """Accuracy against the compute of pretraining, whose unit is given, for each protocol."""
    from matplotlib.figure import Figure  # slow to import

    shown = [p for p in NAMES if p != LAST_LAYER and any(p in r.accuracies for r in results)]
    figure = Figure((4.5 * len(shown), 3.4), dpi=150, layout='constrained')
    panels = figure.subplots(1, len(shown), squeeze=False).flat
    for axes, protocol in zip(panels, shown, strict=True):
        axes.set(title=NAMES[protocol], xlabel=f'{compute} of pretraining')
        axes.spines[['top', 'right']].set_visible(False)
        for place, method in enumerate(dict.fromkeys(r.method for r in results)):
            found = [r for r in results if r.method == method and protocol in r.accuracies]
            means = [mean(r.accuracies[protocol]) for r in found]
            if not any(r.epochs for r in found):
                axes.axhline(means[0] if means else float('nan'), c='C7', ls=':', label=method)
                continue
            errors = [standard_error(r.accuracies[protocol]) for r in found]
            style = dict(fmt='o-' if place < 7 else 's--', color=f'C{place % 7}', label=method)
            axes.errorbar([r.hours for r in found], means, errors, **style)
        axes.set_xlim(left=0)
    figure.axes[0].set_ylabel('test accuracy in %')
    figure.axes[-1].legend(fontsize='small', frameon=False)
    return figure
