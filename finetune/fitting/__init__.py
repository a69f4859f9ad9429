"""Constants: fitted by batched Levenberg-Marquardt, with their errors, and snapped to simple numbers."""
