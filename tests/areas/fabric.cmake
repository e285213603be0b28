# Tests of fabric.
mmc_test(fabric_copy_test SOURCES unit/fabric_copy_test.cc DEPS mmc_fabric)
mmc_test(fabric_ops_test SOURCES unit/fabric_ops_test.cc DEPS mmc_fabric)
mmc_test(fabric_memory_test SOURCES unit/fabric_memory_test.cc DEPS mmc_fabric)
mmc_test(fabric_ticket_test SOURCES unit/fabric_ticket_test.cc DEPS mmc_fabric)

# The contract suite: every transport, one body per promise. Its helper process is found by path.
mmc_program(region_server SOURCES contract/region_server.cc DEPS mmc_fabric)
add_library(mmc_contract_fixture STATIC contract/contract_fixture.cc contract/certificates.cc)
target_link_libraries(mmc_contract_fixture PUBLIC mmc_fabric GTest::gtest PRIVATE mmc_warnings)
target_compile_definitions(mmc_contract_fixture PRIVATE MMC_REGION_SERVER="$<TARGET_FILE:region_server>"
  MMC_MAKE_CERTS="${PROJECT_SOURCE_DIR}/scripts/make_certs")
add_dependencies(mmc_contract_fixture region_server)
foreach(suite transport_contract_test transport_faults_test tcp_frames_test tcp_floods_test tcp_ticket_test
    tcp_tls_test shm_access_test)
  mmc_test(${suite} SOURCES contract/${suite}.cc DEPS mmc_contract_fixture LABELS contract TIMEOUT 600)
endforeach()
if(MMC_SANITIZE)
  target_compile_definitions(tcp_floods_test PRIVATE MMC_SANITIZED)
endif()
target_link_libraries(tcp_tls_test PRIVATE OpenSSL::SSL)
target_link_libraries(tcp_ticket_test PRIVATE OpenSSL::SSL)

mmc_fuzz(data_frame_fuzz SOURCES fuzz/data_frame_fuzz.cc DEPS mmc_fabric
  SEEDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds/data_frame)
