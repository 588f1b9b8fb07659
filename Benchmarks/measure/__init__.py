"""What `Benchmarks/run` measures, a module each, and what they share."""
