"""The initialiser: a set transformer that reads data points and predicts the routing of an EML tree."""

from emlinit.model.initialiser import EMLInitialiser, InitialiserConfig
from emlinit.model.propose import Proposals

__all__ = ["EMLInitialiser", "InitialiserConfig", "Proposals"]
