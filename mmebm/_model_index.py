"""Make the configs of this package known to ``mmpretrain.get_model`` and ``list_models``."""

import functools
from pathlib import Path

from mmpretrain.apis import ModelHub


def find_model_index() -> Path | None:
    """``model-index.yml`` of the installed package, or of a checkout that is not installed."""
    package = Path(__file__).parent
    candidates = (package / '.mim/model-index.yml', package.parent / 'model-index.yml')
    return next((path for path in candidates if path.is_file()), None)


@functools.cache  # the hub refuses a name that it already has
def register_models() -> None:
    """Add every config to MMPretrain's hub, by its name in the metafile; once per process."""
    index = find_model_index()
    if index is not None:
        ModelHub.register_model_index(index, config_prefix=index.parent)
