# Tests of the meta service.
foreach(name allocator table put lease session membership eviction recovery recovery_live recovery_ops concurrency
    ops mover)
  mmc_test(meta_${name}_test SOURCES unit/meta_${name}_test.cc DEPS mmc_meta)
endforeach()
