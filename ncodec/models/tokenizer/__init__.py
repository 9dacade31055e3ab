"""Family `tokenizer`: images as grids of FSQ, BSQ or VQ tokens."""
