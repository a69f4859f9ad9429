"""From a file to a table of numbers: containers, text, layout, cells, dates, units, and what is said of them."""
