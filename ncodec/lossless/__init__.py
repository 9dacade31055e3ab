"""Pixels, restored as they are (specs/lossless.md); C++.

codec.hpp: pixels to payload and back; tile.hpp: the payload; planes.hpp, least_squares.hpp: photographs; indexes.hpp: palettes;
mixing.hpp: adaptive probabilities.
"""
