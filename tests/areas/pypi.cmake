# Real packages of our modules' clients, from the package index, in a virtual environment of their own. Skipped, with
# the reason, where the index cannot be reached.
find_program(MMC_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)

if(MMC_BUILD_PYTHON)
  add_test(NAME pypi_clients COMMAND ${MMC_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/pypi/run.py ${CMAKE_BINARY_DIR}/pypi)
  set(path "${CMAKE_BINARY_DIR}/python:${PROJECT_SOURCE_DIR}/client_sdk/python/compat/src")
  set_tests_properties(pypi_clients PROPERTIES LABELS pypi TIMEOUT 900 SKIP_RETURN_CODE 77
    ENVIRONMENT "PYTHONPATH=${path};MMC_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
endif()
