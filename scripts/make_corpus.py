"""Write random programs as a data set to pretrain on.

    python scripts/make_corpus.py
    python scripts/make_corpus.py --grammar weighted --programs 1000000 --out corpora/weighted
    python scripts/pretrain.py --stream.grammar weighted --stream.corpus corpora/weighted --minutes 60

What was written goes to standard output, progress to standard error.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Torch takes seconds to import: it is loaded in `_make`.
from emlinit.generator.errors import UserError
from emlinit.scripts.arguments import Parser, path_argument
from emlinit.scripts.running import print_stopped, printable, run

_EPILOG = """\
examples:
  %(prog)s                                             100,000 exact programs, in corpora/exact
  %(prog)s --grammar weighted --programs 1000000       a million with free constants, in corpora/weighted
  %(prog)s --max-variables 1 --max-nodes 8 --out small   small identities in one variable
  %(prog)s --seed 1 --out more                         others, with another seed

then:
  emlinit pretrain --stream.grammar exact --stream.corpus corpora/exact --minutes 60
  emlinit pretrain --stream.grammar exact --stream.corpus corpora/exact --stream.corpus-share 0.5 --minutes 60

The folder holds Parquet files and a card (README.md): datasets.load_dataset("corpora/exact") reads it, and it can be
uploaded to the Hugging Face Hub as it is (--stream.corpus hf-hub:OWNER/NAME@REV then reads it). It holds programs, not data:
training draws points and noise afresh each time.
The functions of the frozen evaluation sets are left out. Give the same --max-... to training (as in --stream.max-nodes): it
skips programs beyond its limits.

The same options give the same files. When interrupted, the same command goes on: finished files are in OUT.partial, which
is renamed to OUT in the end.
Exit code: 0 written, 2 the input has to be mended (one line says how)."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `make-corpus`; errors exit with code 2 and one line."""
    parser = Parser("Write random programs as a data set to pretrain on.", _EPILOG)
    parser.add_argument(
        "--grammar",
        choices=("exact", "weighted"),
        default="exact",
        help="exact has no free constants, weighted has them",
    )
    parser.add_argument("--programs", metavar="N", type=int, default=100_000, help="how many")
    parser.add_argument("--out", metavar="DIR", type=path_argument, help="folder to make (default: corpora/GRAMMAR)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="source of all randomness")
    parser.add_argument("--shard-size", metavar="N", type=int, default=50_000, help="programs of a file")
    limits = parser.add_argument_group("limits of a program")
    limits.add_argument("--max-variables", metavar="N", type=int, help="most variables, 1 to 5 (default: 3)")
    limits.add_argument("--max-nodes", metavar="N", type=int, help="most eml nodes (default: 15)")
    limits.add_argument("--max-depth", metavar="N", type=int, help="most eml nodes on a path, exact (default: 6)")
    limits.add_argument("--max-tokens", metavar="N", type=int, help="longest token sequence (default: 64)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _make(parse(argv)))


def _make(arguments: argparse.Namespace) -> int:
    out = arguments.out or Path("corpora") / arguments.grammar
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"'{out}' is there already: name a new folder for --out")

    from emlinit.generator.corpus.card import LIMITS
    from emlinit.generator.corpus.config import StreamConfig
    from emlinit.generator.corpus.writing import WritingConfig, write_corpus

    limits = {name: value for name in LIMITS if (value := getattr(arguments, name)) is not None}
    stream = StreamConfig(grammar=arguments.grammar, **limits)
    config = WritingConfig(
        out=out, programs=arguments.programs, seed=arguments.seed, shard_size=arguments.shard_size, stream=stream
    )
    try:
        figures = write_corpus(config)
    except KeyboardInterrupt as stop:
        finished = sum(path.exists() for path in config.shards)
        return print_stopped(stop, f"; the same command goes on from {finished} finished files in '{config.partial}'")
    print(
        f"{figures.programs} programs, {figures.distinct} of them distinct, {figures.files} files, "
        f"{figures.file_bytes / 1e6:.2f} MB, seed {config.seed}: {printable(str(out))}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
