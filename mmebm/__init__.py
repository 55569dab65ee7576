"""mmebm: energy-based self-supervised pretraining for MMPretrain.

The way of the data, one stage per folder:

1. ``corruptions``    an image becomes ``[corrupted, clean]``
2. ``models``         the energy ``E(x)``, its descent, the loss over the chain
3. ``engine``         hooks and optimizer parts that MMEngine's runner calls
4. ``evaluation``     PSNR, SSIM and AUROC of what the descent restored
5. ``apis``           restore and score images with a trained network

``datasets`` finds and loads the images, ``visualization`` draws the chains. Importing this package
registers everything in MMPretrain's registries.
"""

from .version import __version__

__all__ = ['__version__']
