# Benchmarks of compare.
