"""One partition from frame to commit, and back."""
