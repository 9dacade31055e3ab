"""Family `hyperprior`: network.py (trainable), codec.py (encodes and decodes), recipe.py (how it is trained)."""
