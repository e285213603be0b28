# Tests of common/{base,config,obs/log,runtime} and of the options of both services.
set(unit ${CMAKE_CURRENT_SOURCE_DIR}/unit)
mmc_test(base_test SOURCES ${unit}/base_test.cc DEPS mmc_base)
mmc_test(config_test SOURCES ${unit}/config_test.cc DEPS mmc_config)
mmc_test(config_options_test SOURCES ${unit}/config_options_test.cc DEPS mmc_meta_options mmc_local_options)
target_compile_definitions(config_options_test PRIVATE MMC_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
mmc_test(log_test SOURCES ${unit}/log_test.cc DEPS mmc_log)

mmc_program(mmc_test_daemon SOURCES ${unit}/daemon_program.cc DEPS mmc_runtime)
mmc_test(daemon_test SOURCES ${unit}/daemon_test.cc DEPS mmc_runtime)
target_compile_definitions(daemon_test PRIVATE MMC_TEST_DAEMON="$<TARGET_FILE:mmc_test_daemon>")
add_dependencies(daemon_test mmc_test_daemon)

mmc_program(mmc_docgen SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/tools/docgen.cc
  DEPS mmc_meta mmc_local_options)

mmc_fuzz(conf_fuzz SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/conf_fuzz.cc
  DEPS mmc_meta_options mmc_local_options SEEDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds/conf)
