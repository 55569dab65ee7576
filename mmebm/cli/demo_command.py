"""Look at a network in the browser: damage an image and restore it, step by step.

mmebm demo [CHECKPOINT]
mmebm demo [CHECKPOINT] --host 0.0.0.0    # for others on the network, too

Opens nothing to the network unless --host is given, and loads nothing from it.
"""

import argparse
import os
import socket
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', nargs='?', metavar='CHECKPOINT', help='default: the one of mmebm')
    add('--config', help='needed only if the checkpoint holds none')
    help = 'address to listen on, without a password; default: 127.0.0.1, only this machine'
    add('--host', default='127.0.0.1', help=help)
    add('--port', type=int, help='default: the first free one from 7860 on')
    add('--max-upload', type=float, default=20, metavar='MB', help='of a file; default: 20')
    add('--browser', action='store_true', help='open the page')
    add('--device', help='cpu, cuda, ...; default: the GPU if there is one')
    add('--batch-size', type=int, metavar='TILES', help='tiles per batch')


def run(args: argparse.Namespace) -> int:
    """Serve the page until it is interrupted; 0."""
    start(args).block_thread()
    return 0


def start(args: argparse.Namespace):
    """Serve the page in threads of their own: a ``gradio.Blocks`` with ``close()``."""
    from ..utils import checked_int, checked_number

    checked_number('--max-upload', args.max_upload, above=0)
    if args.port is not None and checked_int('--port', args.port, minimum=1) > 65535:
        raise ValueError(f'--port must be at most 65535, got {args.port}')
    try:  # Gradio would try a hundred ports, and say so for each
        family = socket.AF_INET6 if ':' in args.host else socket.AF_INET
        socket.create_server((args.host, args.port or 0), family=family).close()
    except OSError as error:
        raise OSError(f'cannot listen at {args.host}: {error.strerror or error}') from error
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'  # read when it is imported
    try:
        import gradio as gr
    except ImportError as error:
        raise ImportError('the page needs Gradio: pip install gradio') from error
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from ..restorer import Restorer
    from .demo_page import STYLE, build_page

    restorer = Restorer(args.checkpoint, args.config, args.device, args.batch_size)
    if restorer.sorts:
        raise ValueError('this network sorts patches: the page needs one that restores pixels')
    # A web page elsewhere can let its own name point to 127.0.0.1, and would read what is here.
    hosts = ['localhost', '127.0.0.1'] if args.host in ('localhost', '127.0.0.1') else ['*']
    app = dict(middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)])
    page = build_page(restorer, Path(args.checkpoint or 'mmebm').name)
    page.launch(
        server_name=args.host,
        server_port=args.port,
        inbrowser=args.browser,
        prevent_thread_lock=True,
        quiet=True,
        show_error=True,
        share=False,
        max_file_size=int(args.max_upload * 2**20),
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        footer_links=[],
        app_kwargs=app | dict(docs_url=None, redoc_url=None),
        theme=gr.themes.Default(font=['sans-serif'], font_mono=['monospace']),  # not from the web
        css=STYLE,
    )
    print(f'mmebm demo: {page.local_url} (Ctrl-C ends it)', flush=True)
    return page
