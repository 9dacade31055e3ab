"""`ncodec encode | decode | info | models | tokenize | eval | compare | train | bench | completion`, a file a verb (compare beside eval).
Nothing heavy is imported before work begins.

    options.py  what verbs' options share; wrong values of them are wrong usage
    files.py    which files are read and written
    batch.py    many files: work, lines or a bar, exit codes

Exit codes: 2 usage, 3 format, 4 limit, 5 model, 6 input (a file that is missing or that we cannot carry, an output that
exists or cannot be written); of a batch the largest. 1: who read standard output has gone. 130: interrupted.
"""

import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from ncodec.cli.batch import exit_code, print_aside, print_error
from ncodec.cli.bench import bench_app
from ncodec.cli.completion import completion
from ncodec.cli.decode import decode
from ncodec.cli.encode import encode
from ncodec.cli.evaluate import compare, evaluate
from ncodec.cli.info import info
from ncodec.cli.models import models
from ncodec.cli.options import UsageError
from ncodec.cli.tokenize import tokenize
from ncodec.cli.train import repeat_options, train

from ncodec import __version__
from ncodec.errors import NcodecError

CLOSE = 0.75  # difflib's ratio of names that are likely to be meant

app = typer.Typer(
    help="A neural image codec: small files that decode alike on any machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(encode)
app.command()(decode)
app.command()(info)
app.command()(models)
app.command()(tokenize)
app.command("eval")(evaluate)
app.command()(compare)
app.command()(train)
app.add_typer(bench_app, name="bench")
app.command()(completion)


def _version(value: bool) -> None:
    if value:
        print(f"ncodec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "-V", "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None: ...


def _usage_message(error: Any) -> str:
    """Return what is wrong with the usage. Of an unknown option: what may be meant, or what there is."""
    if error.ctx is None or not hasattr(error, "possibilities"):
        return str(error.format_message())
    known = [
        name
        for parameter in error.ctx.command.params
        if parameter.param_type_name == "option"
        for name in parameter.opts
        if name.startswith("--")
    ]
    names, word = {name.strip("-"): name for name in known}, error.option_name.strip("-")
    begun = [name for name in names if len(word) > 2 and name.startswith(word)]
    close = begun or get_close_matches(word, names, cutoff=CLOSE)
    if close:
        return f"no option {error.option_name}; {' or '.join(names[c] for c in close)}?"
    return f"no option {error.option_name}; {error.ctx.command_path} has {', '.join(known)}"


def _print_usage_error(error: Any, arguments: list[str]) -> None:
    verbs = [word for word in arguments[:1] if not word.startswith("-")]
    path = error.ctx.command_path if error.ctx is not None else " ".join(["ncodec", *verbs])
    print_aside(f"ncodec: {_usage_message(error)}\nTry '{path} --help'.")


def _close_standard_output() -> None:
    """Let nothing more be written there: Python would try again at its end."""
    with suppress(OSError):  # it is no file, where another program calls `main`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command line; library errors become one line and an exit code."""
    if sys.stdout is not None:  # a report must not fail on a name that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    arguments = sys.argv[1:]
    if arguments in ([], ["bench"]):
        arguments = [*arguments, "--help"]
    if arguments[0] == "train":
        arguments = repeat_options(arguments)
    try:
        code = app(arguments, prog_name="ncodec", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        _print_usage_error(error, arguments)
        sys.exit(2)
    except NcodecError as error:
        print_error(error)
        sys.exit(exit_code(error))
    except ModuleNotFoundError as error:
        extra = "train" if arguments[0] == "train" else "eval"
        print_aside(f"ncodec: {arguments[0]} needs {error.name}: pip install 'ncodec[{extra}]'")
        sys.exit(6)
    except BrokenPipeError:
        _close_standard_output()
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # standard output on a full disk
            _close_standard_output()
        place = "standard output" if error.filename is None else error.filename
        print_aside(f"ncodec: {place}: {error.strerror}")
        sys.exit(6)
    if isinstance(code, int):
        sys.exit(code)
