"""Numbers: elementary functions with fixed bits, counter-based random numbers, trees of tensors."""
