# Tests of TLS between clients, nodes and their memory.
mmc_test(data_tls_test SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/data_tls_test.cc
  DEPS mmc_local mmc_meta mmc_client mmc_contract_fixture)
mmc_test(data_ticket_test SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/data_ticket_test.cc
  DEPS mmc_local mmc_meta mmc_client mmc_contract_fixture)
mmc_test(meta_ticket_test SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/meta_ticket_test.cc DEPS mmc_meta)
