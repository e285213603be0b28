# Benchmarks of fabric.
