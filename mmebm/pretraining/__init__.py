"""From a folder of images to a pretrained backbone, in one call. In the order of reading:

``options``  what is asked for
``run``      look, try, plan, train, export
``images``   which images are trained on, and which are held out
``network``  the backbone, run once
``trial``    which batch fits in memory, and how long an iteration takes
``plan``     the length of the run, and its config
"""


def __getattr__(name: str):
    if name in ('PretrainingRun', 'pretrain'):  # import timm, which is slow
        from . import run

        return getattr(run, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = ['PretrainingRun', 'pretrain']
