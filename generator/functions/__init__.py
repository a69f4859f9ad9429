"""All distinct small functions: their table, its cache, and looking up by values."""
