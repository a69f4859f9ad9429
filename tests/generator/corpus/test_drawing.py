"""What may be trained on: nothing that an evaluation asks for, in any spelling."""

from collections.abc import Callable

import torch

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.drawing import Admission, Drawn, read_variables, skeleton_keys
from emlinit.generator.corpus.frozen import HARD_ASIDE_FILE, HARD_FILE, load_formula_problems, training_exclusions
from emlinit.generator.functions.table import INVALID_KEY
from emlinit.generator.grammar import PAD, X1, from_text, pad_sequences


def test_the_skeletons_of_hard_formulas_are_left_out_whatever_their_constants(law: Callable[..., StreamConfig]) -> None:
    config = law("weighted", max_variables=5, max_nodes=20, max_tokens=64)
    admission = Admission(config, training_exclusions(config)[1])
    sequences = [from_text(p.text) for path in (HARD_FILE, HARD_ASIDE_FILE) for p in load_formula_problems(path)]
    tokens, constants = pad_sequences(sequences)
    generator = torch.Generator().manual_seed(0)
    other = constants * torch.empty_like(constants).uniform_(0.3, 3.0, generator=generator)
    swapped = torch.where(tokens == X1, X1 + 1, torch.where(tokens == X1 + 1, X1, tokens))
    swapped = torch.where((tokens == X1 + 1).any(1, keepdim=True), swapped, tokens)
    fits = ((tokens != PAD).sum(1) <= 64) & (skeleton_keys(tokens) != INVALID_KEY)
    assert int(fits.sum()) > 150  # most have a value with the standard constants
    for kinds, values in ((tokens, constants), (tokens, other), (swapped, other)):
        left = admission(Drawn(kinds[fits], values[fits], read_variables(kinds[fits], 5)))
        assert not len(left)
    free, numbers = pad_sequences([from_text("w:2.5 eml w:0.7 x1 1")])
    assert len(admission(Drawn(free, numbers, read_variables(free, 5)))) == 1
