"""What a user may choose fits what there is, and is known without loading torch."""

import subprocess
import sys

from emlinit.finetune.options import GRAMMAR_CHOICES
from emlinit.generator.grammar import GRAMMARS


def test_every_grammar_can_be_asked_for() -> None:
    assert ("auto", *GRAMMARS) == GRAMMAR_CHOICES


def test_options_do_not_wait_for_torch() -> None:
    code = "import sys, emlinit.finetune.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
