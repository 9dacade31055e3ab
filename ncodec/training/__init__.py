"""From photographs to shipped weights: `data` loads, `loop` trains, `export` writes weights, `ship` ships them.

A family says how it is trained in its `recipe` module (recipe.py); dct/ trains the parameters of family `dct`.
"""
