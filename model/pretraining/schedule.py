"""The learning rate of a run: warmup, a constant part, and a cool-down at the end (warmup-stable-decay; Hu et al., arXiv
2404.06395).

The constant part does not know the budget. So a run may go on in a later session with a larger one: what was trained
before the cool-down is what a run of the larger budget would have done, and it goes on from there. A cosine would have
started its fall over. The cool-down takes most of the loss that a long fall takes, in the form 1 - sqrt (Hägele et al.,
arXiv 2405.18392).

    warmup     min(1, (step + 1) / warmup_steps)
    constant   1
    cool-down  1 - sqrt(t), with t going from 0 to 1 over the last `cooldown` of the budget
"""

import math

from emlinit.model.pretraining.optimisation import OptimiserConfig


def is_cooling(progress: float, cooldown: float) -> bool:
    """Whether a run that has used this share of its budget is in the cool-down, which is the last `cooldown` of it."""
    return cooldown > 0 and progress > 1 - cooldown


def learning_rate_at(step: int, progress: float, cooldown: float, config: OptimiserConfig) -> float:
    """Learning rate of a step (0, 1, ...) when `progress` in [0, 1] of the budget is used; `cooldown` is a share of it."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    fall = 0.0
    if is_cooling(progress, cooldown):
        fall = math.sqrt(min(1.0, 1 - (1 - progress) / cooldown))
    floor = config.final_learning_rate
    return warmup * (floor + (config.learning_rate - floor) * (1 - fall))
