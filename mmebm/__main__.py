"""``python -m mmebm``, the same as the command ``mmebm``."""

import sys

from mmebm.cli.main import main

sys.exit(main())
