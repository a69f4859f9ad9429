"""From proposals to a law: constant fitting, Gumbel-hard training, selection, the solver and the estimator."""
