# Tests of local_service and meta_service/http.
set(unit ${CMAKE_CURRENT_SOURCE_DIR}/unit)
mmc_test(local_catalog_test SOURCES ${unit}/local_catalog_test.cc DEPS mmc_local)
mmc_test(local_agent_test SOURCES ${unit}/local_agent_test.cc DEPS mmc_local)
mmc_test(http_router_test SOURCES ${unit}/http_router_test.cc DEPS mmc_meta_http Boost::json)
mmc_test(http_server_test SOURCES ${unit}/http_server_test.cc DEPS mmc_meta_http)
