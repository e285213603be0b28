# Benchmarks of TLS.
mmc_program(tls_bench SOURCES tls_bench.cc DEPS mmc_fabric mmc_security OpenSSL::SSL)
target_compile_definitions(tls_bench PRIVATE MMC_MAKE_CERTS="${PROJECT_SOURCE_DIR}/scripts/make_certs")
