"""The page of ``mmebm demo``. Only :mod:`mmebm.cli.demo_command` imports it, with Gradio."""

import inspect
from html import escape
from typing import NamedTuple

import cv2
import gradio as gr
import numpy as np
import skimage.data
import sklearn.datasets
from PIL import Image

from .. import corruptions
from ..datasets import read_picture
from ..models.chain import Chain, heat_map, to_uint8
from ..restorer import Damage, Restorer, overlay, parse_corruption, ssim_of
from ..restorer.damage import leaves

PAINTED, AS_IT_IS, AS_TRAINED = 'painted', 'none', 'config'
KINDS = {name: kind for name, kind in vars(corruptions).items() if inspect.isclass(kind)}
NAMES = sorted(KINDS.keys() - {'BaseCorruption', 'MixedCorruption'})
OF_THE_NETWORK = ('fill', 'mean', 'on_device', 'seed', 'std', 'to_rgb', 'weights')  # not shown
# for options that have no default
EXAMPLES = dict(patch_size=8, ratio=0.5, num_blocks=25, area_range=(0.02, 0.05), scale=4, width=0.1)
EXAMPLES |= dict(aspect_range=(0.5, 2), sigma_range=(2, 2), quality_range=(9, 9))
EXAMPLES |= dict(low_range=(0.1, 0.1))
LONGEST = 4  # times the short side: what is longer is cut
STYLE = """
.gradio-container { max-width: 1280px !important; margin: auto !important }
#slider img { object-fit: contain !important }
#figures { overflow-x: auto; max-width: 80vw } #figures td, #figures th { padding: 2px 8px }
"""


class Refusal(NamedTuple):
    """In the place of a chain: why there is none."""

    asked: tuple  # as :func:`asked` gives it
    message: str


class Demo:
    """What the page calls."""

    def __init__(self, restorer: Restorer):
        self.restorer = restorer
        self.trained = leaves(restorer.corruption)

    def choices(self) -> list[tuple[str, str]]:
        """Label and key of every damage, those that the network was trained on first."""
        labels = [(f'{name} (trained)', name) for name in self.trained if name in NAMES]
        labels += [('as in its validation', AS_TRAINED)] if self.trained else []
        if not self.restorer.shipped:  # it is offered for what it was measured on
            labels += [(name, name) for name in NAMES if name not in self.trained]
        return [*labels, ('a mask that I paint', PAINTED), ('none: it is damaged', AS_IT_IS)]

    def words(self, name: str, shown: bool = True) -> list[str]:
        """``KEY=VALUE`` of a corruption's options: as trained with, or default, or example."""
        trained, words = self.trained.get(name, {}), []
        for key, parameter in inspect.signature(getattr(corruptions, name)).parameters.items():
            if (key not in OF_THE_NETWORK) == shown and (shown or key in trained):
                value = trained.get(key, EXAMPLES.get(key, parameter.default))
                words.append(f'{key}={value}'.replace(' ', ''))
        return words

    def options(self, kind: str):
        """The text of the options, and whether to show the editor."""
        text = ' '.join(self.words(kind)) if kind in NAMES else ''
        return gr.update(value=text, visible=bool(text)), gr.update(visible=kind == PAINTED)

    def damage(self, kind: str, text: str, seed: int, mask: np.ndarray | None) -> Damage:
        """The choice as :class:`Damage`."""
        if kind in (AS_IT_IS, PAINTED):
            return Damage(mask=mask)
        words = [*self.words(kind, False), *text.split()] if kind in NAMES else []
        return Damage(corruption=parse_corruption([kind, *words]), seed=int(seed))

    def pixels(self, path: str, side: int) -> np.ndarray:
        """A file with a short side of ``side`` pixels, what is too long cut: BGR."""
        pixels = read_picture(path).pixels
        short = min(pixels.shape[:2])
        pixels = to_uint8(pixels[: LONGEST * short, : LONGEST * short])
        height, width = (max(1, round(n * side / short)) for n in pixels.shape[:2])
        method = cv2.INTER_AREA if side < short else cv2.INTER_CUBIC
        return cv2.resize(pixels, (width, height), interpolation=method)

    def canvas(self, path: str | None, kind: str, side: int):
        """The picture to paint on."""
        if path is None or kind != PAINTED:
            return gr.skip()
        return dict(background=self.pixels(path, side)[..., ::-1].copy(), layers=[], composite=None)

    def restore(self, path, kind, text, painted, side, num_steps, seed):
        """The chain, with one step more than is shown; then the outputs of the page."""
        if path is None:
            return gr.skip()
        try:
            pixels = self.pixels(path, side)
            mask = painted_mask(painted, pixels.shape[:2]) if kind == PAINTED else None
            chain = self.restorer(pixels, self.damage(kind, text, seed, mask), int(num_steps) + 1)
        except (OSError, TypeError, ValueError) as error:  # a message that the next result replaces
            message = f'<p role="alert"><b>{escape(str(error))}</b></p>'
            refusal = Refusal(asked(path, kind, text, painted), message)
            return refusal, gr.skip(), message, gr.skip(), gr.skip()
        if kind == PAINTED:
            chain.clean = pixels[..., ::-1]
        n = min(self.restorer.model.num_steps, int(num_steps))
        slider = gr.update(maximum=int(num_steps), value=n, interactive=True)
        return chain, slider, figures(chain), *self.show(chain, n)

    def message(self, chain: Chain | Refusal | None, path, kind, text, painted):
        """A refusal's message while the same is asked for, whenever and how often this is called.

        The editor also tells of a change when it has drawn its picture, seconds later.
        """
        if not isinstance(chain, Refusal):
            return gr.skip()
        return chain.message if chain.asked == asked(path, kind, text, painted) else ''

    def show(self, chain: Chain | Refusal | None, n: int):
        """Step n: before and after; and where the network wants to change it next."""
        if not isinstance(chain, Chain):
            return gr.skip()
        before, after = (to_uint8(chain.images[m]).copy() for m in (0, n))
        heat = heat_map(chain.images[n + 1] - chain.images[n], min(self.restorer.size))
        return (before, after), overlay(after, heat, float(np.percentile(heat, 99.5)) or 1.0)


def asked(path: str | None, kind: str, text: str, painted: dict | None) -> tuple:
    """What a message can be about; an empty layer of the editor is none."""
    layers = (painted or {}).get('layers') or []
    alphas = [layer[..., 3] for layer in layers] if kind == PAINTED else []
    return path, kind, text, *(alpha.tobytes() for alpha in alphas if alpha.any())


def painted_mask(painted: dict | None, shape: tuple[int, int]) -> np.ndarray:
    """Where a layer of the editor is painted: bool ``(H, W)``."""
    mask = np.zeros(shape, bool)
    for layer in (painted or {}).get('layers') or []:
        alpha = Image.fromarray(layer[..., 3]).resize(shape[::-1], Image.Resampling.NEAREST)
        mask |= np.asarray(alpha) > 127
    return mask


def figures(chain: Chain) -> str:
    """Energy, PSNR and SSIM of every step, as HTML."""
    steps = range(len(chain.images) - 1)
    rows = {'step': steps, 'energy': [f'{chain.energies[n]:.4g}' for n in steps]}
    if chain.clean is not None:
        rows['PSNR in dB'] = [f'{chain.psnr[n]:.2f}' for n in steps]
        rows['SSIM'] = [f'{ssim_of(chain.images[n], chain.clean):.3f}' for n in steps]
    lines = (f'<tr><th>{k}</th>{"".join(f"<td>{v}</td>" for v in r)}</tr>' for k, r in rows.items())
    return f'<table>{"".join(lines)}</table>'


def build_page(restorer: Restorer, name: str) -> gr.Blocks:
    """Put the page together: image and damage on the left, what the network makes of it right."""
    demo, (height, width), trained = Demo(restorer), restorer.size, restorer.model.num_steps
    samples = [getattr(skimage.data, n)() for n in ('chelsea', 'coffee', 'astronaut', 'rocket')]
    samples += [sklearn.datasets.load_sample_image(f'{n}.jpg') for n in ('china', 'flower')]
    choices, own = demo.choices(), min(height, width)
    side, text = max(own, min(256, 4 * own)), ' '.join(demo.words(choices[0][1]))
    fixed = dict(interactive=False, buttons=[], format='png')
    private = dict(analytics_enabled=False, delete_cache=(600, 3600))  # uploads: after an hour
    with gr.Blocks(title=f'mmebm: {name}', **private) as page:
        gr.Markdown(f'## Restoring by descent on an energy\n`{name}`: images of {width} × {height}')
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                sources = dict(type='filepath', sources=['upload', 'clipboard'])
                image = gr.Image(samples[0], label='Image', height=230, elem_id='image', **sources)
                # Gradio would open it; the path goes on unopened: all is checked where it is read.
                image.preprocess = lambda payload: None if payload is None else payload.path
                gr.Examples([Image.fromarray(s) for s in samples], image, elem_id='samples')
                damage = gr.Dropdown(choices, value=choices[0][1], label='Damage', elem_id='damage')
                options = gr.Textbox(text, label='Its options', elem_id='options')
                brush = gr.Brush(default_size=16, colors=['#d6336c'], color_mode='fixed')
                tools = dict(sources=[], transforms=[], layers=False, buttons=[], brush=brush)
                label = 'Paint over what is to go'
                editor = gr.ImageEditor(label=label, visible=False, elem_id='editor', **tools)
                button = gr.Button('Restore', variant='primary', elem_id='restore')
                again = gr.Button('Draw the damage again')
                label = f'Steps of descent (trained with {trained})'
                count = gr.Slider(1, 10, max(3, min(10, trained)), step=1, label=label)
                size = gr.Slider(32, max(512, side), side, step=16, label='Short side in pixels')
            with gr.Column(scale=3, min_width=320):
                numbers = gr.HTML(elem_id='figures')
                step = gr.Slider(0, 1, 0, step=1, label='Step', interactive=False, elem_id='step')
                label = 'Damaged | restored'
                slider = gr.ImageSlider(label=label, max_height=460, elem_id='slider', **fixed)
                label = 'Where the network wants to change it'
                where = gr.Image(label=label, height=260, elem_id='where', **fixed)
        state, seed = gr.State(None, time_to_live=3600), gr.State(0)
        # Else what is chosen meanwhile would be dropped.
        quick = dict(api_visibility='private', show_progress='hidden', trigger_mode='always_last')
        in_turn = quick | dict(concurrency_id='network', concurrency_limit=1)
        network = dict(in_turn)
        network['inputs'] = [image, damage, options, editor, size, count, seed]
        network['outputs'] = [state, step, numbers, slider, where]
        canvas = dict(fn=demo.canvas, inputs=[image, damage, size], outputs=editor, **quick)

        def unless_painting(path, kind, *rest):
            return gr.skip() if kind == PAINTED else demo.restore(path, kind, *rest)

        chosen = damage.change(demo.options, damage, [options, editor], **quick)
        chosen.then(**canvas).then(unless_painting, **network)
        gr.on([image.change, size.release], **canvas).then(unless_painting, **network)
        gr.on([button.click, count.release, options.submit], demo.restore, **network)
        drawn = again.click(lambda value: value + 1, seed, seed, **quick)
        drawn.then(unless_painting, **network)
        step.input(demo.show, [state, step], [slider, where], **quick)
        changes = [image.change, damage.input, options.input, editor.input]
        gr.on(changes, demo.message, [state, image, damage, options, editor], numbers, **in_turn)
        page.load(demo.restore, **network)
    return page
