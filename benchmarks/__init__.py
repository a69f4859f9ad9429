"""How good the program is: suites of problems with known answers, methods to compare, scores. No user of the
library imports it."""
