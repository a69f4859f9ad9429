"""Laws of one form with constants of their own for each group of rows."""
