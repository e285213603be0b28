# Tests of common/security and of TLS on the control protocol.
set(unit ${CMAKE_CURRENT_SOURCE_DIR}/unit)
add_library(mmc_test_decrypter SHARED ${unit}/decrypter_library.c)
target_compile_options(mmc_test_decrypter PRIVATE -Wall -Wextra -Werror)
mmc_test(security_files_test SOURCES ${unit}/security_files_test.cc DEPS mmc_security OpenSSL::SSL)
target_compile_definitions(security_files_test PRIVATE MMC_TEST_DECRYPTER="$<TARGET_FILE:mmc_test_decrypter>")
add_dependencies(security_files_test mmc_test_decrypter)
mmc_test(rpc_tls_test SOURCES ${unit}/rpc_tls_test.cc ${unit}/rpc_tls_load_test.cc
  DEPS mmc_rpc mmc_obs mmc_proto OpenSSL::SSL)
mmc_fuzz(certificates_fuzz SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/certificates_fuzz.cc
  DEPS mmc_security OpenSSL::SSL SEEDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds/certificates)
