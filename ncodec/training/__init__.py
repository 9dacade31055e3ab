"""From photographs to shipped weights: `data` loads, `loop` trains, `export` writes weights and tables."""
