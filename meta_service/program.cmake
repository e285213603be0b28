add_subdirectory(http)

mmc_program(mmc_meta_service
  SOURCES main.cc
  DEPS mmc_meta mmc_meta_http mmc_meta_options mmc_runtime mmc_log)
target_compile_definitions(mmc_meta_service PRIVATE MMC_VERSION="${PROJECT_VERSION}")
