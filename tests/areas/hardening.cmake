# Tests of what guards the pool from outside: the certificates of scripts/make_certs, how the programs are linked, units.
add_test(NAME make_certs_test
  COMMAND ${MMC_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/unit/make_certs_test.py ${PROJECT_SOURCE_DIR}/scripts/make_certs)
set_tests_properties(make_certs_test PROPERTIES LABELS unit TIMEOUT 120)
