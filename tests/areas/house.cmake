# Tests of house: the rules of the tree, the end-to-end suite with real daemons, the concurrency stress.
# Debian's Python is the one that has Debian's pytest.
find_program(MMC_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
set(MMC_PYTEST ${MMC_PYTHON} -m pytest -q -p no:cacheprovider)

add_test(NAME tidy
  COMMAND ${MMC_PYTHON} ${PROJECT_SOURCE_DIR}/scripts/tidy.py --build-dir ${CMAKE_BINARY_DIR})
add_test(NAME tidy_test COMMAND ${MMC_PYTEST} ${PROJECT_SOURCE_DIR}/tests/house/tidy_test.py)
set_tests_properties(tidy tidy_test PROPERTIES LABELS tidy TIMEOUT 120)

# Real daemons: one ctest test per file, so that they run side by side. None is ever skipped.
foreach(name test_capture test_cli test_cluster test_daemons test_garbage test_http test_integrity test_pool
             test_recovery test_roles test_tls test_work)
  add_test(NAME e2e_${name} COMMAND ${MMC_PYTEST} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/${name}.py)
  set_tests_properties(e2e_${name} PROPERTIES
    LABELS e2e TIMEOUT 300 ENVIRONMENT MMC_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
endforeach()

mmc_test(stress_test SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/stress/stress_test.cc
  DEPS mmc_meta mmc_local mmc_client mmc_cli_lib LABELS stress TIMEOUT 240)
set_tests_properties(stress_test PROPERTIES RUN_SERIAL ON ENVIRONMENT MMC_STRESS_SECONDS=40)
# The same for four seconds among the unit tests, which also run under the sanitizers.
add_test(NAME stress_short_test COMMAND stress_test)
set_tests_properties(stress_short_test PROPERTIES LABELS unit TIMEOUT 300 ENVIRONMENT MMC_STRESS_SECONDS=4)
add_dependencies(mmc_unit_tests stress_test)
