"""What enters and leaves the program: tables, reports, figures, the folder of results."""
