"""Building blocks of the models: layers, quantisation, priors. No model names here."""

N_SCALES = 64  # rows of a table of residuals, on a logarithmic scale
