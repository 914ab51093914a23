"""Files in tools/deploy by which Titan is run: what can be judged of them without a cluster."""
