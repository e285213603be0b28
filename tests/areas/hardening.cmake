# Tests of what guards the pool from outside: certificates, how the programs are linked, units of systemd.
add_test(NAME make_certs_test
  COMMAND ${MMC_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/unit/make_certs_test.py ${PROJECT_SOURCE_DIR}/scripts/make_certs)
set_tests_properties(make_certs_test PROPERTIES LABELS unit TIMEOUT 120)

# What is shipped, as it is on disk: not of sanitizer builds, which are linked otherwise.
if(NOT MMC_SANITIZE)
  add_test(NAME hardening_test
    COMMAND ${MMC_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/unit/hardening_test.py ${CMAKE_BUILD_TYPE}
      $<TARGET_FILE:mmc_meta_service> $<TARGET_FILE:mmc_local_service> $<TARGET_FILE:mmc_cli>
      $<TARGET_FILE:mmc_client_shared>)
  add_test(NAME units_test
    COMMAND ${MMC_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/unit/units_test.py ${PROJECT_SOURCE_DIR}/packaging/systemd
      ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
  set_tests_properties(hardening_test units_test PROPERTIES LABELS hardening TIMEOUT 60)
endif()

# Peers that take what they can get, against real daemons: memory stays bounded. One at a time: they measure it.
add_test(NAME attacks_resources COMMAND ${MMC_PYTEST} -s ${CMAKE_CURRENT_SOURCE_DIR}/attacks/test_resources.py)
set_tests_properties(attacks_resources PROPERTIES
  LABELS attacks TIMEOUT 600 RUN_SERIAL ON ENVIRONMENT MMC_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY})

foreach(name test_deployment test_http_access test_http_tls test_tickets test_tls_doctor)
  add_test(NAME e2e_${name} COMMAND ${MMC_PYTEST} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/${name}.py)
  set_tests_properties(e2e_${name} PROPERTIES
    LABELS e2e TIMEOUT 300 ENVIRONMENT MMC_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
endforeach()
