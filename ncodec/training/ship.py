"""Puts a trained weights file of family `dct` among the shipped models: `python -m ncodec.training.ship FILE`.

    FILE --> weights/NAME.safetensors
        \\--> weights/index.json: digest, self-test, what is known of it

In a checkout. The entry takes the place of the one of the same name; other models stay as they are. What else depends on the weights is written by .ci/ship-dct, which begins with this.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from ncodec.files import write_whole
from ncodec.models import weights
from ncodec.selftest import make_self_test
from ncodec.weights import DIR


def ship(file: Path, folder: Path) -> dict[str, Any]:
    """Copy a weights file from elsewhere into a folder with an index.json; return its entry there.

    Raises:
        InputError, WeightsMismatchError: not a weights file that this ncodec can run.
    """
    loaded = weights.load(file, "cpu")
    target = folder / f"{loaded.name}.safetensors"
    entry = {
        "name": loaded.name,
        "family": weights.family_of(file).name,
        "file": target.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "about": {"parameters_bytes": file.stat().st_size},
        "self_test": make_self_test(file),
    }
    index = json.loads((folder / "index.json").read_text())
    others = [model for model in index["models"] if model["name"] != loaded.name]
    write_whole(target, file.read_bytes())
    index["models"] = [*others, entry]
    write_whole(folder / "index.json", (json.dumps(index, indent=2) + "\n").encode())
    return entry


def main() -> None:
    """Ship the file that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    entry = ship(parser.parse_args().file, DIR)
    print(f"{entry['name']}: {entry['sha256']}")


if __name__ == "__main__":
    main()
