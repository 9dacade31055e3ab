"""Building blocks of the models: layers, quantisation, priors, exact integer networks. No model names here."""
