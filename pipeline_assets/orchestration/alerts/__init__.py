"""Who must know is told once."""
