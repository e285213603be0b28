# The deterministic simulation. It takes the place of threads, clocks and transports, which sanitizers take too.
if(NOT MMC_SANITIZE AND NOT MMC_BUILD_FUZZ)
  add_executable(sim_test sim/blocks.cc sim/data_plane.cc sim/history.cc sim/interpose.cc sim/main.cc sim/network.cc
    sim/scheduler.cc sim/world.cc sim/world_checks.cc sim/world_faults.cc sim/world_processes.cc sim/world_workload.cc)
  target_include_directories(sim_test PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(sim_test PRIVATE mmc_warnings mmc_client mmc_meta mmc_local mmc_log PkgConfig::xxhash)
  add_test(NAME sim_test COMMAND sim_test)
  add_test(NAME sim_mutations COMMAND sim_test --mutations)
  set_tests_properties(sim_test sim_mutations PROPERTIES LABELS sim TIMEOUT 300)
endif()
