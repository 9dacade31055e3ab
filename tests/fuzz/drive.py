"""Fuzz one Python target with atheris: `python -m fuzz.drive container|decode|exact [libFuzzer options]`.

Started by run.py. Only ncodec's own modules are instrumented; the C++ extension, torch, numpy are not.
"""

import importlib
import sys


def main() -> None:
    """Fuzz until libFuzzer's options say stop; exits by itself."""
    import atheris

    name = sys.argv.pop(1)
    # What run.py installed, not an editable install, whose finder atheris does not see through.
    sys.meta_path[:] = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]
    with atheris.instrument_imports(include=["ncodec"]):
        harness = importlib.import_module(f"fuzz.fuzz_{name}")

    def check(data: bytes) -> None:
        harness.check(data)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        return harness.mutate(data, size, seed, atheris.Mutate)

    atheris.Setup(sys.argv, check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
