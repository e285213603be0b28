# Benchmarks of rpc.
add_executable(rpc_bench ${CMAKE_CURRENT_SOURCE_DIR}/rpc_bench.cc)
target_link_libraries(rpc_bench PRIVATE mmc_warnings mmc_rpc mmc_proto benchmark::benchmark benchmark::benchmark_main)
add_executable(rpc_tls_bench ${CMAKE_CURRENT_SOURCE_DIR}/rpc_tls_bench.cc)
target_link_libraries(rpc_tls_bench PRIVATE mmc_warnings mmc_rpc mmc_proto OpenSSL::SSL benchmark::benchmark)
target_compile_definitions(rpc_tls_bench PRIVATE MMC_MAKE_CERTS="${PROJECT_SOURCE_DIR}/scripts/make_certs")
