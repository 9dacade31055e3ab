"""The fuzzers' seeds and findings, replayed; the harnesses themselves run by tests/fuzz/run.py."""

import json
import random
import shutil
import subprocess

import pytest
from conftest import ROOT
from fuzz import fuzz_container, fuzz_decode, fuzz_exact, make_seeds, run, structure

from ncodec.container import Limits, read
from ncodec.errors import ChecksumError, InputError, NcodecError

FUZZ = ROOT / "tests" / "fuzz"
COMPILER = shutil.which("g++") or shutil.which("clang++")
TARGETS = {"container": fuzz_container, "decode": fuzz_decode, "exact": fuzz_exact}
FILES = {name: {path.name: path for path in run.seed_files(name)} for name in TARGETS}
VECTORS = [path.read_bytes() for path in sorted((FUZZ.parent / "vectors" / "v1").glob("*.nc"))]


@pytest.mark.parametrize("name", TARGETS)
def test_python_seeds_and_findings(name):
    accepted = [TARGETS[name].check(path.read_bytes()) for path in FILES[name].values()]
    assert any(accepted)


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.parametrize("name", run.CPP)
def test_cpp_seeds_and_findings(name, tmp_path):
    program = tmp_path / name
    run.compile_harness(name, COMPILER, ["-Werror"], program)
    files = run.seed_files(name)
    done = subprocess.run([program, *files], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{len(files)} inputs\n"), done.stderr


def test_seeds_are_small_and_as_their_script_writes_them():
    files = [path for path in (FUZZ / "seeds").rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) <= make_seeds.LARGEST
    assert sum(path.stat().st_size for path in files) <= make_seeds.ALTOGETHER
    for name in (*run.CPP, "container", "exact"):
        made = getattr(make_seeds, f"{name}_seeds")()
        assert made == {path.name: path.read_bytes() for path in (FUZZ / "seeds" / name).iterdir()}


@pytest.mark.parametrize("data", VECTORS)
def test_taking_apart_loses_nothing(data):
    assert structure.put_together(structure.take_apart(data)) == data


def test_mutations_pass_the_checksums_and_reach_both_ends():
    accepted, errors = 0, set()
    for seed in range(300):
        data = fuzz_container.mutate(VECTORS[seed % len(VECTORS)], fuzz_container.MAX_LEN, seed)
        try:
            read(data)
            accepted += 1
        except NcodecError as error:
            errors.add(type(error))
    assert accepted > 30 and len(errors) >= 4


def test_mutations_reach_the_networks():
    small = [path.read_bytes() for path in (FUZZ / "seeds" / "decode").iterdir()]
    outcomes = [
        fuzz_decode.check(fuzz_decode.mutate(small[seed % len(small)], 4096, seed))
        for seed in range(60)
    ]
    assert 5 < sum(outcomes) < 60


@pytest.mark.parametrize("part", range(4))
def test_any_graphs(part):
    """Most are computed, and equal to the reference; errors are ncodec's."""
    rng = random.Random(part)
    data = [rng.randbytes(rng.randint(0, fuzz_exact.MAX_LEN)) for _ in range(300)]
    data += [fuzz_exact.mutate(one, fuzz_exact.MAX_LEN, seed) for seed, one in enumerate(data)]
    accepted = sum(map(fuzz_exact.check, data))
    assert 300 < accepted < 600


def test_exact_target_reports_other_errors(monkeypatch):
    seed = (FUZZ / "seeds" / "exact" / "00").read_bytes()
    assert fuzz_exact.check(seed)
    for broken in (AssertionError("ours"), IndexError("theirs"), MemoryError()):

        def run_badly(*_: object, broken: Exception = broken) -> None:
            raise broken

        monkeypatch.setattr(fuzz_exact.Graph, "run", run_badly)
        with pytest.raises(type(broken)):
            fuzz_exact.check(seed)


@pytest.mark.parametrize("kind", fuzz_exact.reference.OPERATIONS)
def test_exact_target_reports_wrong_values(kind, monkeypatch):
    operations = fuzz_exact.reference.OPERATIONS
    right = operations[kind]
    monkeypatch.setitem(operations, kind, lambda *inputs: right(*inputs) ^ 1)
    with pytest.raises(AssertionError):
        for seed in range(100):
            fuzz_exact.check(random.Random(seed).randbytes(400))


def test_latents_past_their_bounds_are_made_and_refused():
    header = read((FUZZ / "seeds" / "decode" / "noise-q8.nc").read_bytes()).header
    made = [fuzz_decode._any_latents(header, 16, 16, random.Random(seed)) for seed in range(40)]
    outcomes = []
    for payload in made:
        parts = structure.take_apart((FUZZ / "seeds" / "decode" / "noise-q8.nc").read_bytes())
        parts.chunks = [(b"TILE", payload)]
        outcomes.append(fuzz_decode.check(structure.put_together(parts)))
    assert True in outcomes and False in outcomes


@pytest.mark.parametrize(
    "broken",
    [AssertionError("ours"), IndexError("theirs"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_container_target_reports_other_errors(broken, monkeypatch):
    def read_badly(data: bytes, limits: Limits) -> None:
        raise broken

    monkeypatch.setattr(fuzz_container.container, "read", read_badly)
    with pytest.raises(type(broken)):
        fuzz_container.check(b"")


def test_container_target_reports_what_does_not_survive(monkeypatch):
    written = fuzz_container.container.write
    monkeypatch.setattr(
        fuzz_container.container, "write", lambda c, limits: written(c, limits)[:-1]
    )
    with pytest.raises(NcodecError):
        fuzz_container.check(VECTORS[0])


def test_decode_target_reports_time(monkeypatch):
    monkeypatch.setattr(fuzz_decode, "LONGEST_S", 0.0)
    with pytest.raises(AssertionError, match=" s"):
        fuzz_decode.check((FUZZ / "seeds" / "decode" / "noise-q8.nc").read_bytes())


def test_checksums_matter():
    data = bytearray(VECTORS[0])
    data[-1] ^= 1
    with pytest.raises(ChecksumError):
        read(bytes(data))


def test_figures_are_read_from_the_log():
    log = "#8\tINITED cov: 3 ft: 4 corp: 1/1b\n#90\tDONE   cov: 12 ft: 34 corp: 5/6b\n"
    log += "stat::number_of_executed_units: 90\nstat::average_exec_per_sec:     45\nstat::peak_rss_mb: 7\n"
    assert json.dumps(run.read_log(log)) == (
        '{"executions": 90, "executions_per_s": 45, "edges": 12, "features": 34, "peak_memory_mb": 7}'
    )


@pytest.mark.parametrize("name", ["container", "decode"])
def test_targets_report_errors_that_blame_the_caller(name, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise InputError("not about the file")

    monkeypatch.setattr(fuzz_container.container, "read", refuse)
    with pytest.raises(InputError):
        TARGETS[name].check(VECTORS[0])
