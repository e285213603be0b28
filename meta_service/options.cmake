# Options of the meta service, apart from the service so that tools and tests can read its conf file.
mmc_library(mmc_meta_options
  HEADERS access.h options.h tenant_quota.h
  SOURCES access.cc options.cc tenant_quota.cc
  DEPS mmc_config mmc_security mmc_proto mmc_rpc)
