# Tests of local_service and meta_service/http.
set(unit ${CMAKE_CURRENT_SOURCE_DIR}/unit)
mmc_test(local_catalog_test SOURCES ${unit}/local_catalog_test.cc DEPS mmc_local)
mmc_test(local_storage_test SOURCES ${unit}/local_storage_test.cc DEPS mmc_local)
mmc_test(local_agent_test SOURCES ${unit}/local_agent_test.cc DEPS mmc_local)
mmc_test(http_router_test SOURCES ${unit}/http_router_test.cc DEPS mmc_meta_http Boost::json)
mmc_test(http_access_test SOURCES ${unit}/http_access_test.cc DEPS mmc_meta_http)
mmc_test(http_server_test SOURCES ${unit}/http_server_test.cc DEPS mmc_meta_http)
mmc_test(http_tls_test SOURCES ${unit}/http_tls_test.cc DEPS mmc_meta_http mmc_rpc mmc_obs mmc_proto OpenSSL::SSL)
mmc_fuzz(http_fuzz SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/http_fuzz.cc DEPS mmc_meta_http Boost::json
  SEEDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds/http)
mmc_fuzz(http_wire_fuzz SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/http_wire_fuzz.cc DEPS mmc_meta_http Boost::json
  SEEDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds/http_wire)
mmc_fuzz(catalog_fuzz SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/catalog_fuzz.cc DEPS mmc_local
  SEEDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds/catalog)
mmc_test(local_service_test SOURCES ${unit}/local_service_test.cc DEPS mmc_local mmc_meta mmc_fabric mmc_proto)
mmc_test(local_fences_test SOURCES ${unit}/local_fences_test.cc DEPS mmc_local mmc_meta mmc_fabric mmc_proto)
mmc_test(local_copier_test SOURCES ${unit}/local_copier_test.cc DEPS mmc_local mmc_meta mmc_fabric mmc_proto)
