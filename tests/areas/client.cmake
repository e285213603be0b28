# Tests of client.
foreach(test put_get bad_input async view location_cache session integrity recovery tenant)
  mmc_test(client_${test}_test
    SOURCES unit/client_${test}_test.cc
    DEPS mmc_client mmc_meta mmc_local PkgConfig::xxhash)
endforeach()
mmc_test(client_embedded_test
  SOURCES unit/client_embedded_test.cc
  DEPS mmc_embedded mmc_meta mmc_local)

# C, and libmmc_client.so alone.
add_executable(client_c_abi_test unit/client_c_abi_test.c)
target_link_libraries(client_c_abi_test PRIVATE mmc_client_shared Threads::Threads)
target_compile_options(client_c_abi_test PRIVATE -Wall -Wextra -Werror -pedantic)
if(MMC_SANITIZE)
  set_target_properties(client_c_abi_test PROPERTIES LINKER_LANGUAGE CXX)  # the sanitizers' parts for the library's C++
endif()
add_dependencies(mmc_unit_tests client_c_abi_test)
add_test(NAME client_c_abi_test COMMAND client_c_abi_test)
set_tests_properties(client_c_abi_test PROPERTIES LABELS unit TIMEOUT 120)
# It shows the C interface and nothing else.
add_test(NAME client_c_abi_symbols
  COMMAND sh -c
    "test -n \"$1\" && ! nm -D --defined-only \"$1\" | awk '$2 != \"A\" && $3 !~ /^mmc_/' | grep ."
    sh $<TARGET_FILE:mmc_client_shared>)
set_tests_properties(client_c_abi_symbols PROPERTIES LABELS unit)
