import gc

import mmebm.datasets  # noqa: F401  with all that it imports

# MMEngine's datasets run the garbage collector when they are built; freezing the objects that the
# imports created makes that quick.
gc.freeze()
