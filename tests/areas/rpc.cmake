# Tests of rpc: framing, calls, bad input, metrics, protocol messages.
set(unit ${CMAKE_CURRENT_SOURCE_DIR}/unit)
mmc_test(rpc_frame_test SOURCES ${unit}/rpc_frame_test.cc DEPS mmc_rpc mmc_proto)
mmc_test(rpc_call_test SOURCES ${unit}/rpc_call_test.cc DEPS mmc_rpc mmc_obs mmc_proto)
mmc_test(rpc_bad_input_test SOURCES ${unit}/rpc_bad_input_test.cc DEPS mmc_rpc mmc_obs mmc_proto)
mmc_test(metrics_test SOURCES ${unit}/metrics_test.cc DEPS mmc_obs)
mmc_test(proto_key_list_test SOURCES ${unit}/proto_key_list_test.cc DEPS mmc_proto)
mmc_test(proto_descriptor_test SOURCES ${unit}/proto_descriptor_test.cc DEPS mmc_proto)
target_compile_definitions(proto_descriptor_test
  PRIVATE MMC_GOLDEN_FILE="${CMAKE_CURRENT_SOURCE_DIR}/golden/proto_descriptors.txt")
mmc_fuzz(frame_fuzz
  SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/frame_fuzz.cc
  DEPS mmc_rpc mmc_proto
  SEEDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds/frame)
