"""bnexport: TF1 models with batch norm, as inference graphs that are right.

The commands are run as `python -m bnexport.freeze`. Importing the package
does not import TensorFlow.
"""

__version__ = "0.1.0"
