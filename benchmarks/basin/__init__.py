"""How often one run of Gumbel-hard training finds the identical function, by the start that it is given."""
