"""What makes a gradient trainable and fast. Nothing here knows a model or a loss of this project.

``second_derivative``               where PyTorch has none
``batch_norm``                      each image's gradient its own
``gradient_collection``             many partial losses, one ``backward``
``compiling``, ``onednn_linear``    speed
"""

from .compiling import CompiledDifferentiation, why_not_compiled
from .gradient_collection import GradientCollector, differentiate
from .second_derivative import check_graph_of_gradient, twice_differentiable
