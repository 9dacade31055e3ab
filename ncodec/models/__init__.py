"""Model families: one file each, readable alone; `registry` lists them."""
