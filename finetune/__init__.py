"""From proposals to a law: constant fitting, Gumbel-hard training, selection, the solver and the estimator."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emlinit.finetune.estimator import EMLRegressor as EMLRegressor

__all__ = ["EMLRegressor"]


def __getattr__(name: str) -> object:
    # Loaded on first use: reading a table, and saying what is wrong with it, should not wait for torch and sympy.
    if name == "EMLRegressor":
        from emlinit.finetune.estimator import EMLRegressor

        return EMLRegressor
    raise AttributeError(f"module 'emlinit.finetune' has no attribute '{name}'")
