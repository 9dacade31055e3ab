"""The command line, installed as ncodec.cli."""
