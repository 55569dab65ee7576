"""The page of a benchmark: its table, accuracy against epochs and compute, curves, commands."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING

from .page import Chart, Curve, number, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAST_LAYER = 'probe-last'  # the probe of the last layer, not of the best one; in tables only
NAMES = {  # in the order of columns
    'finetune': 'finetuning',
    'probe': 'linear probe',
    LAST_LAYER: 'linear probe, last layer',
    'knn': 'kNN',
}


@dataclass(frozen=True)
class Result:
    """A row of the table: a method at one length of pretraining, over all seeds.

    Attributes:
        method: its name.
        epochs: of pretraining; 0 from scratch.
        hours: of pretraining, mean over the seeds.
        accuracies: protocol → test accuracies in %, one per seed.
        layers: protocol → the layer measured: the best on the validation split, or the last.
    """

    method: str
    epochs: int
    hours: float
    accuracies: Mapping[str, Sequence[float]]
    layers: Mapping[str, int]


@dataclass
class BenchmarkReport:
    """All that the page shows.

    Attributes:
        title: of the page.
        state: what is left to run, in a sentence.
        rows: of results.csv.
        results: of the test images, see :func:`summarised`.
        compute: the unit of their hours.
        losses: of pretraining, a curve per method.
        commands: (method, epochs) → the commands that train what the row stands on.
        copies: the folder into which they write.
        whole_command: the one that makes everything.
        facts, options: name → value.
    """

    title: str
    state: str = ''
    rows: Sequence[Mapping] = ()
    results: Sequence[Result] = ()
    compute: str = 'CPU hours'
    losses: Sequence[Curve] = ()
    commands: Mapping[tuple[str, int], Sequence[str]] = field(default_factory=dict)
    copies: str = ''
    whole_command: str = ''
    facts: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


def benchmark_page(report: BenchmarkReport) -> str:
    """Make the page: HTML in one file, which asks nothing of a network. All names are escaped."""
    return render(
        'benchmark.html',
        title=report.title,
        report=report,
        protocols=[NAMES[p] for p in protocols_of(report.results)],
        table=table_rows(report.results),
        failures=failures(report.rows),
        charts=[c for c in charts(report) if c.shown],
        layer_charts=[c for c in layer_charts(report.rows) if c.shown],
        commands=[
            (f'{method}, {epochs} epochs' if epochs else method, lines)
            for (method, epochs), lines in report.commands.items()
        ],
    )


def summarised(rows: Sequence[Mapping], seconds: str = 'pretraining_cpu_s') -> list[Result]:
    """Bring the seeds of the test images together, without runs that have failed.

    Args:
        rows: of results.csv.
        seconds: the column with the cost of pretraining.
    """
    accuracies: dict = defaultdict(lambda: defaultdict(list))
    layers: dict = defaultdict(dict)
    cost: dict = defaultdict(dict)
    for row in rows:
        if row['split'] != 'test' or row.get('failed'):
            continue
        run = row['method'], row['pretraining_epochs']
        accuracies[run][row['protocol']].append(row['accuracy'])
        cost[run][row['seed']] = row[seconds]
        if row.get('layer'):
            layers[run][row['protocol']] = row['layer']
    return [
        Result(*run, mean(cost[run].values()) / 3600, dict(found), layers[run])
        for run, found in accuracies.items()
    ]


def failure_line(row: Mapping) -> str:
    """What has failed, why, and where its output is."""
    return f'{row["method"]}, seed {row["seed"]}, {row["protocol"]}: {row["failed"]}'


def failures(rows: Sequence[Mapping]) -> list[str]:
    """A line for each run that has failed, and for each method without any other."""
    # one line for all layers
    lines = list(dict.fromkeys(failure_line(row) for row in rows if row.get('failed')))
    methods = dict.fromkeys(row['method'] for row in rows)
    others = {row['method'] for row in rows if not row.get('failed')}
    return lines + [f'{m} is left out: every run failed' for m in methods if m not in others]


def protocols_of(results: Sequence[Result]) -> list[str]:
    return [p for p in NAMES if any(result.accuracies.get(p) for result in results)]


def drawn(results: Sequence[Result]) -> list[str]:
    """The protocols that charts show."""
    return [p for p in protocols_of(results) if p != LAST_LAYER]


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; 0 for a single value, of which there is none."""
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def mean_and_error(values: Sequence[float]) -> str:
    """Mean ± its standard error, which a single value does not have."""
    if not values:
        return ''
    error = f' ± {standard_error(values):.1f}' if len(values) > 1 else ''
    return f'{mean(values):.1f}{error}'


def result_table(results: Sequence[Result], compute: str) -> list[list[str]]:
    """Lines of cells for :func:`mmebm.utils.tables.markdown_table`."""
    protocols = protocols_of(results)
    lines = [
        ['method', 'epochs', compute, *protocols],
        ['---', '---:', '---:', *['---:'] * len(protocols)],
    ]
    for r in results:
        cells = [mean_and_error(r.accuracies.get(p, [])) for p in protocols]
        lines.append([r.method, str(r.epochs), f'{r.hours:.2f}', *cells])
    return lines


def table_rows(results: Sequence[Result]) -> list[dict]:
    """Rows for the page; a cell is its text, a note, and whether it is the best of its column."""
    protocols = protocols_of(results)
    best = {
        p: max(mean(r.accuracies[p]) for r in results if r.accuracies.get(p)) for p in protocols
    }
    rows = []
    for r in results:
        cells = []
        for p in protocols:
            values = r.accuracies.get(p, [])
            layer = f'layer {r.layers[p]}' if values and p in r.layers else ''
            cells.append((mean_and_error(values), layer, bool(values) and mean(values) == best[p]))
        rows.append(
            dict(
                method=r.method,
                epochs=r.epochs,
                hours=number(r.hours) if r.epochs else '',
                seeds=max(len(v) for v in r.accuracies.values()),
                cells=cells,
            )
        )
    return rows


def charts(report: BenchmarkReport) -> list[Chart]:
    """Accuracy against epochs and against compute, for each protocol; then losses."""
    found, styles = [], _styles(report.rows)
    for protocol in drawn(report.results):
        groups: dict[str, list[Result]] = defaultdict(list)
        for r in report.results:
            if r.accuracies.get(protocol):
                groups[r.method].append(r)
        scratch = [(m, mean(rs[0].accuracies[protocol])) for m, rs in groups.items() if _free(rs)]
        for title, x_label in (
            ('epochs', 'epochs of pretraining'),
            ('compute', f'{report.compute} of pretraining'),
        ):
            curves = [
                Curve(
                    method,
                    [float(r.epochs) if title == 'epochs' else r.hours for r in members],
                    [mean(r.accuracies[protocol]) for r in members],
                    [standard_error(r.accuracies[protocol]) for r in members],
                    styles[method],
                )
                for method, members in groups.items()
                if not _free(members)
            ]
            level = scratch[0] if scratch else None
            title = f'{_heading(protocol)} against {title}'
            found.append(Chart(title, x_label, curves, ' %', level=level, from_zero=True))
    found.append(
        Chart(
            'Loss while pretraining',
            'iterations',
            [replace(curve, style=styles[curve.name]) for curve in report.losses],
            note='As a share of the first one logged, since the methods have different losses.',
        )
    )
    return found


def _styles(rows: Sequence[Mapping]) -> dict[str, int]:
    """The same for a method in all charts."""
    return {method: n for n, method in enumerate(dict.fromkeys(row['method'] for row in rows))}


def _free(results: Sequence[Result]) -> bool:
    """Whether nothing was pretrained."""
    return not any(r.epochs for r in results)


def _heading(protocol: str) -> str:
    return NAMES[protocol][0].upper() + NAMES[protocol][1:] if protocol != 'knn' else 'kNN'


def layer_charts(rows: Sequence[Mapping]) -> list[Chart]:
    """Accuracy on the validation split behind every layer, at the best learning rate."""
    found, styles = [], _styles(rows)
    for protocol in ('probe', 'knn'):
        runs: dict = defaultdict(dict)
        for row in rows:
            if (row['split'], row['protocol']) == ('val', protocol) and not row.get('failed'):
                runs[row['method'], row['pretraining_lr']][row['layer']] = row['accuracy']
        best: dict[str, dict[int, float]] = {}
        for (method, _), layers in runs.items():
            if method not in best or max(layers.values()) > max(best[method].values()):
                best[method] = layers
        curves = [
            Curve(method, sorted(layers), [layers[n] for n in sorted(layers)], style=styles[method])
            for method, layers in best.items()
        ]
        found.append(
            Chart(
                f'{_heading(protocol)} behind each layer',
                'layer',
                curves,
                unit=' %',
                note='Validation images; each method at its best learning rate of pretraining.',
            )
        )
    return found


def draw_results(results: Sequence[Result], compute: str) -> 'Figure':
    """Accuracy against compute, above it against epochs of pretraining if there are several.

    Args:
        results: see :func:`summarised`.
        compute: what their hours are of, for the axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    protocols = drawn(results)
    methods = list(dict.fromkeys(r.method for r in results))
    across = {f'{compute} of pretraining': 'hours'}
    if len({r.epochs for r in results if r.epochs}) > 1:
        across = {'epochs of pretraining': 'epochs', **across}
    size = 4.5 * len(protocols), 3 * len(across) + 0.4
    figure = Figure(size, dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(across), len(protocols), squeeze=False)
    for column, protocol in enumerate(protocols):
        axes[0, column].set_title(NAMES[protocol])
        for place, method in enumerate(methods):
            members = [r for r in results if r.method == method and r.accuracies.get(protocol)]
            means = [mean(r.accuracies[protocol]) for r in members]
            errors = [standard_error(r.accuracies[protocol]) for r in members]
            for axis, (label, attribute) in zip(axes[:, column], across.items(), strict=True):
                axis.set(xlabel=label, ylabel='test accuracy in %')
                axis.spines[['top', 'right']].set_visible(False)
                if not any(r.epochs for r in members):
                    if means:
                        axis.axhline(means[0], color='C7', linestyle=':', label=method)
                    continue
                style = 'o-' if place < 7 else 's--'
                x = [getattr(r, attribute) for r in members]
                axis.errorbar(x, means, errors, fmt=style, color=f'C{place % 7}', label=method)
    for axis in axes.flat:
        axis.set_xlim(left=0)
    axes[0, -1].legend(fontsize='small', frameon=False)
    return figure
