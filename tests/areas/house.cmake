# Tests of house: the rules of the tree, the end-to-end suite with real daemons, the concurrency stress.
# Debian's Python is the one that has Debian's pytest.
find_program(MMC_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
set(MMC_PYTEST ${MMC_PYTHON} -m pytest -q -p no:cacheprovider)

add_test(NAME tidy
  COMMAND ${MMC_PYTHON} ${PROJECT_SOURCE_DIR}/scripts/tidy.py --build-dir ${CMAKE_BINARY_DIR})
add_test(NAME tidy_test COMMAND ${MMC_PYTEST} ${PROJECT_SOURCE_DIR}/tests/house/tidy_test.py)
set_tests_properties(tidy tidy_test PROPERTIES LABELS tidy TIMEOUT 120)
