"""Block transform coding without torch: residual blocks of any codec (blocks.py), parameters of family `dct`."""

from ncodec.dct.blocks import BlockCoder, load_parameters

__all__ = ["BlockCoder", "load_parameters"]
