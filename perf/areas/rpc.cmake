# Benchmarks of rpc.
