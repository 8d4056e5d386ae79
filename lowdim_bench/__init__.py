"""lowdim-bench: how few degrees of freedom does it take to train a neural network?"""

__version__ = "0.1.0"
