# Benchmarks of rpc.
add_executable(rpc_bench ${CMAKE_CURRENT_SOURCE_DIR}/rpc_bench.cc)
target_link_libraries(rpc_bench PRIVATE mmc_warnings mmc_rpc mmc_proto benchmark::benchmark benchmark::benchmark_main)
