"""From a folder of images to a pretrained backbone. In the order of reading: ``options`` (what is
asked for), ``run`` (look, try, plan, write, train, export), ``images`` and ``network`` (what was
found), ``trial`` (what fits, and how long it takes), ``plan`` (length and config).
"""
