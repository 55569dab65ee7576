"""Make the configs of this package known to ``mmpretrain.get_model`` and ``list_models``."""

import functools

from mmpretrain.apis import ModelHub

from .utils.shipped_files import shipped


@functools.cache  # the hub refuses a name that it already has
def register_models() -> None:
    """Add our configs to MMPretrain's hub, by their names in the metafile; once per process."""
    try:
        index = shipped('model-index.yml')
    except FileNotFoundError:  # only the package was copied: no configs
        return
    ModelHub.register_model_index(index, config_prefix=index.parent)
    # MMPretrain's hub builds its own kinds of models only; segmentors are MMSegmentation's
    for name in [name for name in ModelHub._models_dict if name.startswith('upernet_')]:
        del ModelHub._models_dict[name]
