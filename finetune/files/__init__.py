"""What is written of a solution: reports, figures, a plot for the terminal, the folder of results."""
