# Benchmarks of meta.
