import gc
import io

from PIL import Image

import mmebm.datasets  # noqa: F401  with all that it imports

# MMEngine's datasets run the garbage collector when they are built; freezing the objects that the
# imports created makes that quick.
gc.freeze()

LOSSLESS = dict(WEBP=dict(lossless=True), JPEG2000=dict(irreversible=False))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **LOSSLESS.get(kind, {}), **options)
    return stream.getvalue()
