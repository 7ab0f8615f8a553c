"""What changed upstream is computed downstream."""
