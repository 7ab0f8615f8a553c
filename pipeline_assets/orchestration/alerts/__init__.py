"""Tells those who must know, once."""
