"""What developers of Titan run: generators, benchmarks and the demo. Nothing here is installed."""
