"""Fuzz the coder and the decoder: `python tests/fuzz/run.py [--minutes 10] [--only NAME]` (README.md).

    rans, tables, binary, tokens, dct, jpeg, lossless | C++, clang's libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer
    container, decode                       | Python, atheris

Exit code 0: nothing found; 1: a finding, kept in tests/fuzz/findings; 2: a tool is missing.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build" / "fuzz"  # programs, corpora, logs; ignored by git
PACKAGE = WORK / "package"
CPP, PYTHON = (
    ("rans", "tables", "binary", "tokens", "dct", "jpeg", "lossless"),
    ("container", "decode", "exact"),
)
MAX_LEN = 4096
LARGEST_SEED = 4096  # bytes, of those taken from tests/vectors
SANITIZE = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
TIMEOUT_S, MEMORY_MB = 5, 2048  # of one input


def install_package() -> None:
    """Install this checkout by itself: atheris cannot instrument what an editable install's finder loads."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade"]
    subprocess.run([*command, "--target", PACKAGE, ROOT], check=True)


def find_compiler(names: tuple[str, ...]) -> str:
    """Return the first C++ compiler there is, or exit with 2."""
    for name in (*names, *(f"{names[0]}-{version}" for version in range(21, 13, -1))):
        if path := shutil.which(name):
            return path
    print(
        f"{names[0]} is missing: `apt-get install clang` brings it, with libFuzzer", file=sys.stderr
    )
    raise SystemExit(2)


def compile_harness(name: str, compiler: str, options: list[str], out: Path) -> None:
    """Compile one C++ harness.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    room = name if name in ("dct", "jpeg", "lossless") else "entropy"
    include = [f"-I{ROOT / 'ncodec' / room}" for room in (room, "entropy")]
    source = [str(HERE / f"fuzz_{name}.cpp")]
    if options != SANITIZE:
        source.append(str(HERE / "replay.cpp"))
    flags = ["-std=c++17", "-O1", "-g", "-pthread", "-Wall", "-Wextra"]
    subprocess.run([compiler, *flags, *options, *include, *source, "-o", str(out)], check=True)


def seed_files(name: str) -> list[Path]:
    """Return what a harness starts from: its seeds, its findings, the small files of other tests."""
    folders = [HERE / "seeds" / name, HERE / "findings" / name]
    files = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    if name in ("container", "decode"):
        files += (HERE.parent / "vectors" / "v1").glob("*.nc")
    if name == "container":
        files += (HERE.parent / "attacks").glob("*.nc")
        files += (HERE / "seeds" / "decode").glob("*.nc")
    return sorted(
        path for path in files if path.name != "README.md" and path.stat().st_size <= LARGEST_SEED
    )


def command(name: str) -> list[str]:
    """Return how to start a harness."""
    if name in CPP:
        return [str(WORK / f"fuzz_{name}")]
    return [sys.executable, "-m", "fuzz.drive", name]


def read_log(log: str) -> dict[str, Any]:
    """Return executions, executions a second, edges (`cov`) and features (`ft`) of libFuzzer's output."""
    last = re.findall(r"^#\d+\s+\w+\s+cov: (\d+) ft: (\d+)", log, re.M)
    stats = dict(re.findall(r"^stat::(\w+):\s+(\d+)", log, re.M))
    return {
        "executions": int(stats.get("number_of_executed_units", 0)),
        "executions_per_s": int(stats.get("average_exec_per_sec", 0)),
        "edges": int(last[-1][0]) if last else 0,
        "features": int(last[-1][1]) if last else 0,
        "peak_memory_mb": int(stats.get("peak_rss_mb", 0)),
    }


def fuzz(name: str, seconds: int) -> dict[str, Any]:
    """Run one harness and return its figures and findings."""
    corpus, seeds, artifacts = (WORK / kind / name for kind in ("corpus", "seeds", "artifacts"))
    shutil.rmtree(artifacts, ignore_errors=True)
    shutil.rmtree(seeds, ignore_errors=True)
    for folder in (corpus, seeds, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    for path in seed_files(name):
        shutil.copy(path, seeds / f"{path.parent.name}-{path.name}")
    options = [
        f"-max_total_time={seconds}", f"-max_len={MAX_LEN}", f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={artifacts}/", "-print_final_stats=1",
    ]  # fmt: skip
    python_path = os.pathsep.join(
        map(str, [PACKAGE, HERE.parent, os.environ.get("PYTHONPATH", "")])
    )
    env = os.environ | {"PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    log = WORK / f"{name}.log"
    started = time.monotonic()
    with log.open("wb") as out:
        try:
            process = subprocess.run(
                [*command(name), *options, str(corpus), str(seeds)],
                cwd=WORK, env=env, stdout=out, stderr=subprocess.STDOUT, timeout=seconds + 120,
            )  # fmt: skip
            code = process.returncode
        except subprocess.TimeoutExpired:
            code = -1
    result: dict[str, Any] = {
        "harness": name,
        "exit_code": code,
        "seconds": round(time.monotonic() - started, 1),
    }
    result |= read_log(log.read_text(errors="replace"))
    result["findings"] = [
        keep(name, path)
        for path in sorted(artifacts.iterdir())
        if not path.name.startswith("slow-unit")
    ]
    result["log"] = str(log)
    return result


def keep(name: str, artifact: Path) -> str:
    """Copy what was found to findings/, named by kind and digest, and return its path."""
    data = artifact.read_bytes()
    kind = artifact.name.split("-")[0]
    kept = HERE / "findings" / name / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return str(kept.relative_to(ROOT))


def valgrind(names: list[str]) -> int:
    """Replay seeds, findings and corpus without sanitizers under valgrind; return the exit code."""
    if not shutil.which("valgrind"):
        print("valgrind is missing: `apt-get install valgrind`", file=sys.stderr)
        return 2
    failed = 0
    for name in names:
        program = WORK / f"replay_{name}"
        compile_harness(name, find_compiler(("g++", "clang++")), [], program)
        files = seed_files(name)
        files += sorted((WORK / "corpus" / name).glob("*"))[:100]
        options = ["--error-exitcode=1", "--leak-check=full", "--track-origins=yes", "-q"]
        code = subprocess.run(["valgrind", *options, str(program), *map(str, files)]).returncode
        print(f"{name}: {len(files)} inputs under valgrind, exit code {code}", flush=True)
        failed |= code != 0
    return failed


def main() -> int:
    """Build, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of each harness")
    parser.add_argument(
        "--only", choices=[*CPP, *PYTHON], action="append", help="this harness; repeat for more"
    )
    parser.add_argument("--jobs", type=int, default=2, choices=[1, 2], help="harnesses at a time")
    parser.add_argument("--json", type=Path, help="write a summary here")
    parser.add_argument(
        "--valgrind", action="store_true", help="replay the C++ harnesses under valgrind instead"
    )
    options = parser.parse_args()
    names = options.only or [*CPP, *PYTHON]
    if options.valgrind:
        return valgrind([name for name in names if name in CPP])
    if set(names) & set(PYTHON) and importlib.util.find_spec("atheris") is None:
        print(
            "atheris is missing: `pip install ncodec[fuzz]` (Linux, Python 3.11 to 3.13)",
            file=sys.stderr,
        )
        return 2
    for name in names:
        if name in CPP:
            compile_harness(name, find_compiler(("clang++",)), SANITIZE, WORK / f"fuzz_{name}")
    WORK.mkdir(parents=True, exist_ok=True)
    if set(names) & set(PYTHON):
        install_package()
    seconds = max(1, round(60 * options.minutes))
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda name: fuzz(name, seconds), names))
    print(
        f"{'harness':10} {'executions':>12} {'a second':>9} {'edges':>6} {'features':>8}  findings"
    )
    for r in results:
        # A harness that could not start, or saw no coverage, has shown nothing.
        r["failed"] = bool(r["findings"] or r["exit_code"] != 0 or r["edges"] == 0)
        found = ", ".join(r["findings"]) or (
            f"exit code {r['exit_code']}, see {r['log']}" if r["failed"] else "none"
        )
        print(
            f"{r['harness']:10} {r['executions']:12} {r['executions_per_s']:9} {r['edges']:6} {r['features']:8}  {found}"
        )
    if options.json:
        options.json.write_text(
            json.dumps({"seconds_each": seconds, "results": results}, indent=1) + "\n"
        )
    return int(any(r["failed"] for r in results))


if __name__ == "__main__":
    sys.exit(main())
