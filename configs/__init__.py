"""Training configs: one TOML file a shipped model."""

from pathlib import Path

DIR = Path(__file__).parent
