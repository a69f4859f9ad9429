"""The law: a formula with its views and exports, its standard errors, its price, and the choice among several."""
