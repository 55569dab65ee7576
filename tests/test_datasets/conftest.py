import gc

import mmebm.datasets  # noqa: F401  with all that it imports

# MMEngine's datasets collect garbage when they are made; without what the imports left behind that
# is quick.
gc.freeze()
