# Tests of the meta service.
foreach(name allocator table put lease session membership eviction recovery recovery_live recovery_ops concurrency
    removal durable ops wait mover tenant access keep)
  mmc_test(meta_${name}_test SOURCES unit/meta_${name}_test.cc DEPS mmc_meta)
endforeach()

mmc_fuzz(meta_methods_fuzz SOURCES fuzz/meta_methods_fuzz.cc DEPS mmc_meta
  SEEDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds/meta_methods)
