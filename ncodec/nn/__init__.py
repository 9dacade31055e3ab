"""Building blocks of the models: layers, quantisation, priors. No model names here."""

N_SCALES = 64  # rows of a table of residuals, on a logarithmic scale
STRIDE = 16  # pixels per latent of y
BLOCK_DIMENSION = 3 * STRIDE**2  # of the linear path's blocks
HEAD = 32  # channels of a head of attention
