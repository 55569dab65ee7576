"""Look at a network in the browser: damage images, restore them, rank a folder.

mmebm demo CHECKPOINT
mmebm demo CHECKPOINT --host 0.0.0.0 --folder photos/     # others on the network may use it too

Opens nothing to the network unless --host is given, and loads nothing from it.
Needs Gradio: pip install 'mmebm[demo]'
"""

import argparse
import ipaddress
import os
import socket
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('--config', help='needed only where the checkpoint holds none')
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on; defaults to 127.0.0.1, which only this machine reaches. There '
        'is no password',
    )
    parser.add_argument('--port', type=int, help='defaults to the first that is free from 7860 on')
    parser.add_argument(
        '--folder',
        help='the only folder, with those below it, whose images may be ranked. Without it any '
        'folder of this machine may, or, if --host is not this machine alone, none',
    )
    parser.add_argument(
        '--max-upload', type=float, default=20, metavar='MB', help='of a file; defaults to 20'
    )
    parser.add_argument('--browser', action='store_true', help='open the page')
    parser.add_argument('--device', help="'cpu', 'cuda', ... Defaults to the GPU if there is one")
    parser.add_argument(
        '--batch-size', type=int, metavar='TILES', help='that the network gets at once'
    )


def run(args: argparse.Namespace) -> int:
    """Serve the page until it is interrupted; 0."""
    app = start(args)
    print('Ctrl-C ends it', flush=True)
    app.block_thread()
    return 0


def start(args: argparse.Namespace):
    """Serve the page in threads of their own.

    Returns:
        The ``gradio.Blocks``, whose ``close()`` ends it, with its address in ``local_url``.

    Raises:
        ImportError: Gradio is missing.
        OSError: the port is taken, or this machine has no such address.
        TypeError, ValueError: an option is out of its range.
    """
    from ..utils import checked_int, checked_number

    checked_number('--max-upload', args.max_upload, above=0)
    if args.port is not None and checked_int('--port', args.port, minimum=1) > 65535:
        raise ValueError(f'--port must be at most 65535, got {args.port}')
    folder = None if args.folder is None else Path(args.folder).expanduser().resolve()
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f'--folder: no such folder: {args.folder}')
    check_address(args.host, args.port)
    import_gradio()
    from ..apis import WholeImageRestorer
    from .demo_page import STYLE, build_page, theme

    restorer = WholeImageRestorer(args.checkpoint, args.config, args.device, args.batch_size)
    page = build_page(
        restorer, Path(args.checkpoint).name, folder, ranking=folder is not None or alone(args.host)
    )
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
        app_kwargs=dict(middleware=known_hosts(args.host), docs_url=None, redoc_url=None),
        theme=theme(),
        css=STYLE,
    )
    print(f'mmebm demo: {page.local_url}', flush=True)
    return page


def check_address(host: str, port: int | None) -> None:
    """Check that one can listen there; Gradio tries a hundred ports, and says so for each.

    Raises:
        OSError: the port is taken, or this machine has no such address.
    """
    where = host if port is None else f'{host}, port {port}'
    try:
        for family, kind, *_, address in socket.getaddrinfo(
            host, port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
    except OSError as error:
        raise OSError(f'cannot listen at {where}: {error.strerror or error}') from error


def import_gradio():
    """Gradio, told to send nothing about its use.

    Raises:
        ImportError: it is not installed.
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    try:
        import gradio
    except ModuleNotFoundError as error:
        if error.name != 'gradio':
            raise
        raise ImportError("the page needs Gradio: pip install 'mmebm[demo]'") from error
    return gradio


def alone(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def known_hosts(host: str) -> list:
    """Middleware that answers only to this machine's names, where it listens to this machine only.

    A web page elsewhere can let its own name point to 127.0.0.1, and would read what is here.
    """
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    if not alone(host) or ':' in host:  # of IPv6 addresses Starlette reads the first digits only
        return []
    return [Middleware(TrustedHostMiddleware, allowed_hosts=['localhost', '127.0.0.1', host])]
