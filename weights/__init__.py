"""Shipped weights: index.json and one safetensors file a model."""

from pathlib import Path

DIR = Path(__file__).parent
