# Tests of faults: real daemons behind proxies of the test and in network namespaces, killed, stopped and cut off. Their
# clients are processes with pymmc. What they try to break is in docs/testing.md, "Faults".
find_program(MMC_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)

# FILE of tests/faults, without .py; CASE of it, or nothing for all.
function(mmc_faults name file)
  set(what ${CMAKE_CURRENT_SOURCE_DIR}/faults/${file}.py)
  if(ARGC GREATER 2)
    string(APPEND what "::${ARGV2}")
  endif()
  add_test(NAME faults_${name} COMMAND ${MMC_PYTHON} -m pytest -q -s -p no:cacheprovider "${what}")
  set_tests_properties(faults_${name} PROPERTIES LABELS faults TIMEOUT 600 ENVIRONMENT
    "PYTHONPATH=${CMAKE_BINARY_DIR}/python;MMC_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
endfunction()

if(MMC_BUILD_PYTHON)
  mmc_faults(frames test_frames)
  mmc_faults(history_checker test_history_checker)
  # One test for each scenario, so that they run side by side.
  foreach(scenario put put-shm get remove evict drain rebuild rejoin)
    mmc_faults(crashes_${scenario} test_crashes "test_every_step[${scenario}]")
  endforeach()
  mmc_faults(stalls test_stalls)
  mmc_faults(partitions test_partitions)
  mmc_faults(history test_history)
endif()
