# Benchmarks of compare: the measuring half of perf/compare, built with the benchmarks so that it does not rot.
mmc_program(compare_driver
  SOURCES
    compare_driver.cc
    driver/copies.cc
    driver/meta_rates.cc
    driver/objects.cc
    driver/restarts.cc
    driver/round_trips.cc
    driver/sizes.cc
  DEPS mmc_client mmc_cli_lib mmc_rpc mmc_proto mmc_fabric)
target_include_directories(compare_driver PRIVATE ${PROJECT_SOURCE_DIR})
