"""How the curve bends: plateau, steady or compounding."""
