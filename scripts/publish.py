"""Make a folder for the Hugging Face Hub from a checkpoint, and upload it.

    python scripts/publish.py
    python scripts/publish.py --checkpoint local-dir:runs/exact/export --out exact-hub
    python scripts/publish.py --checkpoint builtin:weighted --push OWNER/NAME

What was written goes to standard output; its last line, after an upload, is the name to load the checkpoint by.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

# Torch and the Hub's client take seconds to import: they are loaded in `_publish`.
from emlinit.generator.errors import UserError
from emlinit.scripts.arguments import Parser, checkpoint_argument, path_argument
from emlinit.scripts.running import Remarks, note_written, print_remark, printable, run

_EPILOG = """\
examples:
  %(prog)s                                             the shipped exact checkpoint, in build/hub
  %(prog)s --checkpoint local-dir:RUN/export --out DIR   the weights of a pretraining run of your own
  %(prog)s --push OWNER/NAME                           write the folder and upload it
  %(prog)s --push OWNER/NAME --private                 to a private repository

The folder holds model.safetensors, config.json, README.md (the model card, with metadata that the Hub reads),
metrics.json and, if the checkpoint has one, the curve of its held-out loss. A README.md beside the weights is used as the
card and its metadata are completed. Everything is checked before it is written: every tensor, the architecture, the sha256.

Uploading needs a login with write permission: 'hf auth login' once, or a token in HF_TOKEN. All files go up in one commit,
whose hash is printed; load them, here or anywhere, by the line printed last:

  hf-hub:OWNER/NAME@HASH        as in: emlinit solve data.csv --checkpoint hf-hub:OWNER/NAME@HASH

Exit code: 0 done, 2 something has to be mended (one line says what)."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `publish`; errors exit with code 2 and one line."""
    parser = Parser("Make a folder for the Hugging Face Hub from a checkpoint, and upload it if wanted.", _EPILOG)
    parser.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        type=checkpoint_argument,
        default="builtin:exact",
        help="builtin:exact, builtin:weighted, local-dir:PATH or hf-hub:OWNER/NAME@REV",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=path_argument,
        default=Path("build/hub"),
        help="folder to write: new, empty, or written by this command before",
    )
    upload = parser.add_argument_group("upload")
    upload.add_argument("--push", metavar="OWNER/NAME", type=_repository, help="upload to this model repository")
    upload.add_argument("--private", action="store_true", help="make it private, and upload to no public one")
    upload.add_argument("--endpoint", metavar="URL", type=_url, help="address of the Hub (default: HF_ENDPOINT)")
    arguments = parser.parse_args(argv)
    if arguments.push is None and (arguments.private or arguments.endpoint is not None):
        parser.error("--private and --endpoint are about an upload: add --push OWNER/NAME")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(lambda: _publish(parse(argv)))


def _publish(arguments: argparse.Namespace) -> int:
    from emlinit.model.publishing.publication import publish

    done = publish(arguments.checkpoint, arguments.out, arguments.push)
    note_written(done.folder)
    print(printable(f"wrote {done.folder}: {', '.join(done.files)}"))
    print(f"{done.grammar} grammar, {done.n_parameters:,} parameters, sha256 {done.sha256}")
    if arguments.push is None:
        print_remark("add --push OWNER/NAME to upload it")
        return 0

    from emlinit.model.weights.hub import push

    remarks = Remarks()
    remarks.add(f"uploading to {arguments.push}")
    try:
        commit = push(done.folder, arguments.push, private=arguments.private, endpoint=arguments.endpoint)
    except UserError as error:
        raise UserError(f"{error} ('{done.folder}' is written, nothing was published)") from error
    print(f"commit {commit}")
    if arguments.endpoint is not None:
        remarks.add(f"set HF_ENDPOINT={arguments.endpoint} to load it from there")
    print(f"hf-hub:{arguments.push}@{commit}", flush=True)
    remarks.say()
    return 0


def _repository(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form OWNER/NAME")
    return text


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]\S*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no address: it should begin with https:// or http://")
    return text.rstrip("/")


if __name__ == "__main__":
    sys.exit(main())
