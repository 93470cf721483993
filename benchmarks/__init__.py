"""Measurements that anyone can repeat: `python -m benchmarks.peers`, `.scaling` and `.steps`, from the repository."""
