"""Make the configs of this package known to ``mmpretrain.get_model`` and ``list_models``."""

import functools
from pathlib import Path

from mmpretrain.apis import ModelHub

from .utils.shipped_files import find_shipped


def find_model_index() -> Path | None:
    """``model-index.yml`` of the installed package, or of a checkout used without installing."""
    return find_shipped('model-index.yml')


@functools.cache  # the hub refuses a name that it already has
def register_models() -> None:
    """Add every config to MMPretrain's hub, by its name in the metafile; once per process."""
    index = find_model_index()
    if index is not None:
        ModelHub.register_model_index(index, config_prefix=index.parent)
