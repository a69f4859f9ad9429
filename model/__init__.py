"""The initialiser: a set transformer that reads data points and predicts the routing of an EML tree."""
