"""One open subtree: what it must be worth, and which known function is worth that."""
