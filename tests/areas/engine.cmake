# Tests of the transfer engine. Its Python side is among the python tests.
mmc_test(engine_memory_test SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/engine_memory_test.cc DEPS mmc_engine)
mmc_test(engine_test SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/engine_test.cc DEPS mmc_engine mmc_contract_fixture)
