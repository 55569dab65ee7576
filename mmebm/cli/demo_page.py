"""The page of ``mmebm demo``. Only :mod:`mmebm.cli.demo_command` imports it, after Gradio."""

import html
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from ..apis import (
    Damage,
    Picture,
    StepByStep,
    UnreadableImageError,
    WholeImageRestorer,
    find_images,
    read_picture,
    restore_step_by_step,
    score_images,
)
from ..apis.scoring import SCORES, scored_size
from ..utils.tables import write_csv
from ..visualization.score_page import overlay, score_page
from .score_command import ranked_images, rows_of

PAINTED, AS_IT_IS, AS_TRAINED = 'painted', 'none', 'config'
MOST_STEPS = 10
SIDES = (32, 512)  # of the short side of an image that is restored, in pixels
USUAL_SIDE = 256  # it is at first, if the network's images are not larger, or much smaller
LONGEST = 4  # times the short side: what is longer is cut
MOST_RANKED = 500
STYLE = """
.gradio-container { max-width: 1280px !important; margin: auto !important }
#samples .grid-container { grid-template-columns: repeat(6, minmax(0, 1fr)) !important; gap: 4px;
  padding: 0 }
#samples .grid-wrap { padding: 6px !important; overflow: hidden !important }
#slider img { object-fit: contain !important }
.figures { display: flex; flex-wrap: wrap; gap: 8px 28px; padding: 2px 2px 6px }
.figures div { min-width: 90px } .figures small { display: block; opacity: .7 }
.figures b { font-size: 1.35em; font-variant-numeric: tabular-nums; font-weight: 600 }
.figures i { font-style: normal; margin-left: .4em; font-variant-numeric: tabular-nums }
iframe.ranks { width: 100%; height: 75vh; border: 1px solid var(--border-color-primary);
  border-radius: 8px; background: #fff }
"""


@dataclass(frozen=True)
class Option:
    """A slider: its label, ends, step and where it stands first."""

    label: str
    low: float
    high: float
    step: float
    value: float


@dataclass(frozen=True)
class Kind:
    """A corruption as the page offers it.

    Attributes:
        label: what to call it.
        options: at most two sliders.
        config: their values → options of the registered class.
    """

    label: str
    options: tuple[Option, ...] = ()
    config: Callable[..., dict] = dict


def kinds_of(size: int) -> dict[str, Kind]:
    """What can be done to an image, by registered name.

    Args:
        size: side of the network's images, by which cells have their first size.
    """
    cell = Option('side of a cell, in pixels', 1, 64, 1, max(1, min(64, size // 8)))
    share = Option('share of the cells', 0, 1, 0.05, 0.5)
    return {
        'GriddedMask': Kind(
            'Masked squares', (cell, share), lambda a, b: dict(patch_size=int(a), ratio=b)
        ),
        'RandomBlockMask': Kind(
            'Masked rectangles',
            (
                Option('number', 1, 100, 1, 25),
                Option('area of each, as a share', 0.005, 0.1, 0.005, 0.03),
            ),
            lambda a, b: dict(num_blocks=int(a), area_range=(b, b), aspect_range=(0.5, 2)),
        ),
        'GaussianNoise': Kind(
            'Noise',
            (Option('share of the image that is left, γ', 0, 1, 0.05, 0.5),),
            lambda a: dict(gamma_range=(a, a)),
        ),
        'SuperResolution': Kind(
            'Low resolution',
            (Option('times smaller', 1, 32, 1, max(2, min(32, size // 6))),),
            lambda a: dict(scale=int(a)),
        ),
        'Colorization': Kind('No colour'),
        'Blur': Kind(
            'Blur',
            (Option('σ, in pixels', 0, 10, 0.25, 2),),
            lambda a: dict(sigma_range=(a, a)),
        ),
        'JPEGCompression': Kind(
            'JPEG',
            (Option('quality', 1, 100, 1, 10),),
            lambda a: dict(quality_range=(int(a), int(a))),
        ),
        'FrequencyMask': Kind(
            'Missing frequencies',
            (
                Option('above, in cycles per pixel', 0, 0.5, 0.01, 0.05),
                Option('width of the band', 0.01, 0.7, 0.01, 0.1),
            ),
            lambda a, b: dict(low_range=(a, a), width=b),
        ),
        'Shuffle': Kind('Jigsaw', (cell, share), lambda a, b: dict(patch_size=int(a), ratio=b)),
        'Fog': Kind(
            'Fog',
            (Option('density', 0, 1, 0.05, 0.9),),
            lambda a: dict(density_range=(a, a)),
        ),
    }


def trained_with(config: dict | None) -> dict[str, dict]:
    """The corruptions inside that of the network's validation, by name."""
    if config is None:
        return {}
    if config['type'] == 'MixedCorruption':
        return {k: v for part in config['corruptions'] for k, v in trained_with(part).items()}
    return {config['type']: {k: v for k, v in config.items() if k not in ('seed', 'on_device')}}


def sample_photographs() -> dict[str, np.ndarray]:
    """Photographs inside scikit-image and scikit-learn, ``(H, W, 3)`` uint8 RGB."""
    import skimage.data
    import sklearn.datasets

    found = {n: getattr(skimage.data, n)() for n in ('chelsea', 'astronaut', 'coffee', 'rocket')}
    return found | {n: sklearn.datasets.load_sample_image(f'{n}.jpg') for n in ('china', 'flower')}


def readable_errors(function: Callable) -> Callable:
    """What the user did wrong as a message on the page; other errors pass through."""

    def checked(*args):
        try:
            return function(*args)
        except (FileNotFoundError, UnreadableImageError, ValueError) as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error

    return checked


class Demo:
    """What the page calls.

    Args:
        restorer: the network.
        folder: the only one whose images may be ranked, with those below it; None for any.
    """

    def __init__(self, restorer: WholeImageRestorer, folder: Path | None):
        self.restorer, self.folder = restorer, folder
        self.kinds = kinds_of(min(restorer.size))
        self.trained = trained_with(restorer.corruption)

    def choices(self) -> list[tuple[str, str]]:
        """Label and key of every damage, those that the network was trained on first."""
        known = [(f'{k.label} (trained)', n) for n, k in self.kinds.items() if n in self.trained]
        others = [(k.label, n) for n, k in self.kinds.items() if n not in self.trained]
        mixed = (
            [('One of these, as in its validation (trained)', AS_TRAINED)] if self.trained else []
        )
        return [
            *known,
            *mixed,
            ('A mask that I paint', PAINTED),
            *others,
            ('None: it is damaged already', AS_IT_IS),
        ]

    def damage(self, kind: str, a: float, b: float, seed: int, mask: np.ndarray | None) -> Damage:
        """The choice as :class:`Damage`."""
        if kind == AS_IT_IS:
            return Damage()
        if kind == PAINTED:
            return Damage(mask=mask)
        if kind == AS_TRAINED:
            return Damage(corruption=AS_TRAINED, seed=int(seed))
        chosen = self.kinds[kind]
        options = chosen.config(*(a, b)[: len(chosen.options)])
        config = {**self.trained.get(kind, {}), **options, 'type': kind}
        return Damage(corruption=config, seed=int(seed))

    def picture(self, path: str, side: int) -> Picture:
        """A file with a short side of ``side`` pixels; what is too long is cut."""
        picture = read_picture(path)
        height, width = picture.pixels.shape[:2]
        longest = LONGEST * min(height, width)
        if max(height, width) > longest:
            picture = Picture(picture.pixels[:longest, :longest])
        return Picture(scored_size(picture, self.restorer.size, int(side)))

    def options(self, kind: str):
        """The sliders and the editor for a choice."""
        options = self.kinds[kind].options if kind in self.kinds else ()
        sliders = [
            gr.update(
                minimum=o.low,
                maximum=o.high,
                step=o.step,
                value=o.value,
                label=o.label,
                visible=True,
            )
            for o in options
        ]
        sliders += [gr.update(visible=False)] * (2 - len(sliders))
        return *sliders, gr.update(visible=kind == PAINTED)

    @readable_errors
    def canvas(self, path: str | None, kind: str, side: int):
        """The picture to paint on."""
        if path is None or kind != PAINTED:
            return gr.skip()
        pixels = np.ascontiguousarray(self.picture(path, side).pixels[..., ::-1])
        return dict(background=pixels, layers=[], composite=None)

    @readable_errors
    def restore(
        self,
        path: str | None,
        kind: str,
        a: float,
        b: float,
        painted: dict | None,
        side: int,
        num_steps: int,
        seed: int,
    ):
        """All steps of a picture; shown is the last one that the network was trained for."""
        if path is None:
            return gr.skip()
        picture = self.picture(path, side)
        mask = None
        if kind == PAINTED:
            mask = painted_mask(painted, picture.pixels.shape[:2])
            if not mask.any():
                raise ValueError('Paint over the part of the picture that is to go, then restore.')
        damage = self.damage(kind, a, b, seed, mask)
        steps = restore_step_by_step(self.restorer, picture, damage, int(num_steps))
        n = min(self.restorer.model.num_steps, steps.num_steps)
        slider = gr.update(maximum=steps.num_steps, value=n, interactive=True)
        return steps, slider, *self.show(steps, n)

    def show(self, steps: StepByStep | None, n: int):
        """Step n: before and after, figures, where, energies."""
        if steps is None:
            return gr.skip()
        n = min(int(n), steps.num_steps)
        highest = float(np.percentile(steps.heats[0], 99.5)) or 1.0
        return (
            (steps.frame(0), steps.frame(n)),
            figures(steps, n),
            overlay(steps.frame(n), steps.heats[n], highest),
            energy_plot(steps, n),
        )

    def folder_of(self, text: str) -> Path:
        """A folder that may be read.

        Raises:
            ValueError: it may not.
            FileNotFoundError: there is none.
        """
        if not text.strip():
            raise ValueError('Name a folder of images.')
        folder = (self.folder or Path()).joinpath(Path(text.strip()).expanduser()).resolve()
        if self.folder is not None and not folder.is_relative_to(self.folder):
            raise ValueError(f'Only {self.folder} and what is below it may be ranked here.')
        if not folder.is_dir():
            raise FileNotFoundError(f'no such folder: {folder}')
        return folder

    @readable_errors
    def rank(
        self, text: str, by: str, count: int, corruptions: int, progress: gr.Progress | None = None
    ):
        """The page of ranked images, and the files to take away."""
        folder = self.folder_of(text)
        images = find_images(folder)
        if self.folder is not None:  # a link may lead out of it
            images = [i for i in images if i.resolve().is_relative_to(self.folder)]
        chosen = np.linspace(0, len(images) - 1, min(len(images), int(count))).round().astype(int)
        chosen = [images[i] for i in np.unique(chosen)]
        if by in ('knn', 'size') and len(chosen) == 1:
            raise ValueError(f'{by} compares an image with others: choose another score')
        done = iter(range(1, len(chosen) + 1))
        progress = progress or (lambda *args, **kwargs: None)
        found, problems = score_images(
            self.restorer,
            chosen,
            max(int(corruptions), int(by == 'restoration')) if self.trained else 0,
            on_image=lambda: progress((next(done), len(chosen)), desc='scoring'),
        )
        if not found:
            raise ValueError(f'none of the {len(chosen)} images could be read')
        ranked = ranked_images(found, folder, by)
        notes = [f'{len(found)} of {len(images)} images of {folder}.']
        notes += [f'{len(problems)} could not be read.'] if problems else []
        page = score_page(ranked, SCORES, by, notes=notes)
        out = Path(tempfile.mkdtemp(prefix='mmebm-demo-'))
        write_csv(rows_of(ranked), out / 'scores.csv')
        Path(out, 'scores.html').write_text(page, encoding='utf-8')
        # An image's name is anybody's: no script runs in this frame.
        frame = (
            f'<iframe class="ranks" sandbox title="ranks" srcdoc="{html.escape(page)}"></iframe>'
        )
        files = [str(out / 'scores.csv'), str(out / 'scores.html')]
        return frame, gr.File(value=files, visible=True)


def painted_mask(painted: dict | None, shape: tuple[int, int]) -> np.ndarray:
    """Where a layer of the editor is painted: bool ``(H, W)``."""
    mask = np.zeros(shape, bool)
    for layer in (painted or {}).get('layers') or []:
        alpha = Image.fromarray(layer[..., 3])
        if alpha.size != shape[::-1]:
            alpha = alpha.resize(shape[::-1], Image.Resampling.NEAREST)
        mask |= np.asarray(alpha) > 127
    return mask


def figures(steps: StepByStep, n: int) -> str:
    """PSNR, SSIM and energy of step n, with what has changed since the start."""
    energy, before = steps.energies[n], steps.energies[0]
    parts = [('energy', f'{energy:.4g}', f'{energy - before:+.3g}')]
    if steps.clean is not None:
        values = [(steps.psnr(m), steps.ssim(m)) for m in (n, 0)]
        (psnr, ssim), (psnr_before, ssim_before) = values
        gain = f'{psnr - psnr_before:+.2f}' if np.isfinite(psnr_before) else ''
        parts = [
            ('PSNR', f'{psnr:.2f} dB', gain),
            ('SSIM', f'{ssim:.3f}', f'{ssim - ssim_before:+.3f}'),
            *parts,
        ]
    shown = ''.join(
        f'<div><small>{name}</small><b>{value}</b><i>{change if n else ""}</i></div>'
        for name, value, change in [('step', f'{n} of {steps.num_steps}', ''), *parts]
    )
    return f'<div class="figures">{shown}</div>'


def energy_plot(steps: StepByStep, n: int) -> Figure:
    """Energy over the steps, and PSNR where it is known; step n is marked."""
    figure = Figure(figsize=(5, 3.2), layout='constrained')
    axes = figure.subplots()
    numbers = range(steps.num_steps + 1)
    axes.plot(numbers, steps.energies, 'o-', color='#4a74a8', label='energy')
    axes.axvline(n, color='0.8', zorder=0)
    axes.set_xlabel('step')
    axes.set_ylabel('energy', color='#4a74a8')
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[['top', 'right']].set_visible(False)
    if steps.clean is not None:
        twin = axes.twinx()
        twin.plot(numbers, [steps.psnr(m) for m in numbers], 's--', color='#c05f3c')
        twin.set_ylabel('PSNR in dB', color='#c05f3c')
        twin.spines[['top', 'left']].set_visible(False)
    return figure


def theme() -> gr.themes.Base:
    """Gradio's, with the fonts of the system: its own come from the web."""
    return gr.themes.Default(
        primary_hue='blue',
        neutral_hue='slate',
        font=['system-ui', 'sans-serif'],
        font_mono=['ui-monospace', 'monospace'],
    )


def build_page(
    restorer: WholeImageRestorer, name: str, folder: Path | None, ranking: bool
) -> gr.Blocks:
    """Put the page together.

    Args:
        restorer: the network.
        name: of its checkpoint.
        folder: see :class:`Demo`.
        ranking: whether folders of this machine may be ranked at all.
    """
    demo = Demo(restorer, folder)
    height, width = restorer.size
    learnt = ', '.join(demo.kinds[n].label.lower() for n in demo.trained if n in demo.kinds)
    with gr.Blocks(
        title=f'mmebm: {name}', analytics_enabled=False, delete_cache=(600, 3600)
    ) as page:
        gr.Markdown(
            f'## Restoring by descent on an energy\n`{name}`: images of {width} × {height} pixels'
            + (f'; trained on: {learnt}' if learnt else '')
        )
        with gr.Tab('Restore'):
            restore_tab(demo, page)
        if ranking:
            with gr.Tab('Rank a folder'):
                rank_tab(demo)
    return page


def restore_tab(demo: Demo, page: gr.Blocks) -> None:
    """Image and damage on the left, what the network makes of it on the right."""
    samples = sample_photographs()
    own = min(demo.restorer.size)
    side = max(own, min(4 * own, USUAL_SIDE))
    kind = demo.choices()[0][1]
    first, second, _ = ({k: v for k, v in u.items() if k != '__type__'} for u in demo.options(kind))
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            image = gr.Image(
                next(iter(samples.values())),
                label='Image: drop one here, or take a sample',
                type='filepath',
                format='png',
                sources=['upload', 'clipboard'],
                height=230,
                buttons=[],
                elem_id='image',
            )
            # Gradio would open it; the path goes on unopened, and all is checked where it is read.
            image.preprocess = lambda payload: None if payload is None else payload.path
            gallery = gr.Gallery(
                [ImageOps.fit(Image.fromarray(pixels), (144, 144)) for pixels in samples.values()],
                show_label=False,
                columns=6,
                rows=1,
                height=72,
                allow_preview=False,
                object_fit='cover',
                interactive=False,
                buttons=[],
                elem_id='samples',
            )
            damage = gr.Dropdown(
                demo.choices(),
                value=kind,
                label='What is wrong with it',
                filterable=False,
                elem_id='damage',
            )
            a = gr.Slider(**first, elem_id='first')
            b = gr.Slider(**second, elem_id='second')
            with gr.Column(visible=False) as painting:
                editor = gr.ImageEditor(
                    label='Paint over what is to go',
                    type='numpy',
                    image_mode='RGBA',
                    sources=[],
                    transforms=[],
                    layers=False,
                    brush=gr.Brush(default_size=16, colors=['#d6336c'], color_mode='fixed'),
                    buttons=[],
                    format='png',
                    height=380,
                    elem_id='editor',
                )
            with gr.Row():
                again = gr.Button('Draw again', elem_id='again')
                button = gr.Button('Restore', variant='primary', elem_id='restore')
            with gr.Accordion('More', open=False):
                count = gr.Slider(
                    1,
                    MOST_STEPS,
                    value=max(3, min(MOST_STEPS, demo.restorer.model.num_steps)),
                    step=1,
                    label='Steps of descent',
                    info=f'trained with {demo.restorer.model.num_steps}',
                )
                size = gr.Slider(
                    SIDES[0],
                    max(SIDES[1], side),
                    value=side,
                    step=16,
                    label='Short side of the image, in pixels',
                )
                seed = gr.Number(0, precision=0, minimum=0, label='Seed of the damage')
        with gr.Column(scale=3, min_width=320):
            step = gr.Slider(0, 1, value=0, step=1, label='Step', interactive=False, elem_id='step')
            figure_row = gr.HTML(elem_id='figures')
            gr.Markdown('Left of the handle the damaged image, right of it the restored one')
            slider = gr.ImageSlider(
                show_label=False,
                interactive=False,
                type='numpy',
                format='png',
                max_height=460,
                buttons=['fullscreen'],
                elem_id='slider',
            )
            with gr.Row():
                with gr.Column(min_width=280):
                    gr.Markdown('Where the network wants to change it')
                    where = gr.Image(
                        show_label=False,
                        format='png',
                        interactive=False,
                        buttons=['fullscreen'],
                        height=260,
                        elem_id='where',
                    )
                with gr.Column(min_width=280):
                    gr.Markdown('Over the steps')
                    plot = gr.Plot(show_label=False, format='png', elem_id='plot')
    state = gr.State(None, time_to_live=3600)
    inputs = [image, damage, a, b, editor, size, count, seed]
    shown = [slider, figure_row, where, plot]
    network = dict(
        concurrency_id='network',
        concurrency_limit=1,
        api_visibility='private',
        show_progress='minimal',
        trigger_mode='always_last',  # else what is chosen meanwhile would be dropped
    )
    quick = dict(api_visibility='private', show_progress='hidden', trigger_mode='always_last')
    again_inputs = dict(fn=demo.restore, inputs=inputs, outputs=[state, step, *shown], **network)

    names = list(samples)

    def sample(event: gr.SelectData) -> np.ndarray:
        return samples[names[event.index]]

    gallery.select(sample, None, image, **quick)
    unless_painting = dict(again_inputs, fn=skip_painting(demo.restore))
    damage.change(demo.options, damage, [a, b, painting], **quick).then(
        demo.canvas, [image, damage, size], editor, **quick
    ).then(**unless_painting)
    gr.on([image.change, size.release], demo.canvas, [image, damage, size], editor, **quick).then(
        **unless_painting
    )
    gr.on([a.release, b.release], **unless_painting)
    gr.on([button.click, count.release], **again_inputs)
    again.click(lambda value: int(value) + 1, seed, seed, **quick).then(**unless_painting)
    step.input(demo.show, [state, step], shown, **quick)
    page.load(**again_inputs)


def skip_painting(restore: Callable) -> Callable:
    """Not before somebody has painted and asks for it."""

    def maybe(path, kind, *rest):
        return gr.skip() if kind == PAINTED else restore(path, kind, *rest)

    return maybe


def rank_tab(demo: Demo) -> None:
    """A folder in, the page of ``mmebm score`` out."""
    with gr.Row():
        folder = gr.Textbox(
            '' if demo.folder is None else str(demo.folder),
            label='Folder of images on the machine that serves this page',
            placeholder='/home/me/photos',
            scale=4,
            elem_id='folder',
        )
        by = gr.Dropdown(list(SCORES), value='size', label='Rank by', scale=1, filterable=False)
    with gr.Row():
        count = gr.Slider(2, MOST_RANKED, value=200, step=1, label='Images at most, evenly spread')
        corruptions = gr.Slider(0, 8, value=0, step=1, label='Restorations of each (slow)')
    button = gr.Button('Rank', variant='primary', elem_id='rank')
    frame = gr.HTML(elem_id='ranks')
    files = gr.File(
        label='The table and this page',
        file_count='multiple',
        interactive=False,
        visible=False,
        elem_id='files',
    )

    def rank(text, by, count, corruptions, progress=gr.Progress()):  # noqa: B008  Gradio's way
        return demo.rank(text, by, count, corruptions, progress)

    gr.on(
        [button.click, folder.submit],
        rank,
        [folder, by, count, corruptions],
        [frame, files],
        concurrency_id='network',
        concurrency_limit=1,
        api_visibility='private',
    )
