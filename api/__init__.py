"""Symbolic regression with one operator, eml(l, r) = exp(l) - ln(r).

    from emlinit import EMLRegressor
    model = EMLRegressor(seconds=20).fit(X, y)
    print(model.law_.formula)

Names are loaded on first use: `import emlinit` waits for neither torch nor sympy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emlinit.finetune.estimator import EMLRegressor as EMLRegressor
    from emlinit.finetune.forms import fit_form as fit_form
    from emlinit.finetune.law.law import Law as Law
    from emlinit.finetune.solver import solve as solve
    from emlinit.generator.errors import UserError as UserError
    from emlinit.model.initialiser import EMLInitialiser as EMLInitialiser

__version__ = "0.1.0"
_HOME = {
    "EMLInitialiser": "emlinit.model.initialiser",
    "EMLRegressor": "emlinit.finetune.estimator",
    "Law": "emlinit.finetune.law.law",
    "UserError": "emlinit.generator.errors",
    "fit_form": "emlinit.finetune.forms",
    "solve": "emlinit.finetune.solver",
}
__all__ = ["EMLInitialiser", "EMLRegressor", "Law", "UserError", "__version__", "fit_form", "solve"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'emlinit' has no attribute '{name}': the public names are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
