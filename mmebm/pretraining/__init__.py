"""From a folder of images to a pretrained backbone. In the order of reading: ``options`` (what is
asked for), ``run`` (look, try, plan, write, train, export), ``images`` and ``network`` (what was
found), ``trial`` (what fits, and how long it takes), ``plan`` (length and config).
"""


def __getattr__(name: str):
    if name in ('PretrainingRun', 'pretrain'):  # import timm, which is slow
        from . import run

        return getattr(run, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = ['PretrainingRun', 'pretrain']
