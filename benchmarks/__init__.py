"""What `make bench` runs: ratios against the raw limit, or a peer, measured in the same run."""
