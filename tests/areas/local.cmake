# Tests of local_service and meta_service/http.
set(unit ${CMAKE_CURRENT_SOURCE_DIR}/unit)
mmc_test(local_catalog_test SOURCES ${unit}/local_catalog_test.cc DEPS mmc_local)
