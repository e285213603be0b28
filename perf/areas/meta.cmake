# Benchmarks of the meta service.
add_executable(meta_bench ${CMAKE_CURRENT_SOURCE_DIR}/meta_bench.cc)
target_link_libraries(meta_bench PRIVATE mmc_warnings mmc_meta benchmark::benchmark benchmark::benchmark_main)
