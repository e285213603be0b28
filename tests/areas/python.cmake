# Tests of python: the module pymmc over pools in the process and of real daemons.
find_program(MMC_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)

if(MMC_BUILD_PYTHON)
  # With sanitizers: their libraries come before all others into an interpreter that does not know of them. What it and
  # its modules leave behind at their end is none of ours.
  set(python_environment MMC_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
  if(MMC_SANITIZE MATCHES "address")
    set(libraries)
    foreach(library libasan.so libubsan.so libstdc++.so.6)
      execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${library} OUTPUT_VARIABLE path
        OUTPUT_STRIP_TRAILING_WHITESPACE)
      list(APPEND libraries ${path})
    endforeach()
    list(JOIN libraries ":" libraries)
    list(APPEND python_environment LD_PRELOAD=${libraries} ASAN_OPTIONS=detect_leaks=0)
  endif()
  foreach(name test_pymmc_async test_pymmc_buffers test_pymmc_calls test_pymmc_engine test_pymmc_process
               test_pymmc_stub test_pymmc_tls test_pymmc_views)
    add_test(NAME python_${name}
      COMMAND ${MMC_PYTHON} -m pytest -q -p no:cacheprovider ${CMAKE_CURRENT_SOURCE_DIR}/python/${name}.py)
    set_tests_properties(python_${name} PROPERTIES LABELS python TIMEOUT 300
      ENVIRONMENT "PYTHONPATH=${CMAKE_BINARY_DIR}/python;${python_environment}")
  endforeach()

  # The drop-in modules of the compat wheel, from their sources.
  foreach(name test_client_docs test_pymmc_secure_calls
               test_memcache_calls test_memcache_clients test_memcache_config test_memcache_gva test_memcache_rules
               test_mooncake_clients test_mooncake_commands test_mooncake_engine test_mooncake_hostile
               test_mooncake_rules test_mooncake_store)
    add_test(NAME python_${name}
      COMMAND ${MMC_PYTHON} -m pytest -q -p no:cacheprovider ${CMAKE_CURRENT_SOURCE_DIR}/python/${name}.py)
    set(path "${CMAKE_BINARY_DIR}/python:${PROJECT_SOURCE_DIR}/client_sdk/python/compat/src")
    set_tests_properties(python_${name} PROPERTIES LABELS python TIMEOUT 300
      ENVIRONMENT "PYTHONPATH=${path};${python_environment}")
  endforeach()
endif()
