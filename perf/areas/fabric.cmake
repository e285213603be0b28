# Benchmarks of fabric.
foreach(bench copy_bench fabric_bench)
  mmc_program(${bench} SOURCES ${bench}.cc DEPS mmc_fabric benchmark::benchmark)
endforeach()
