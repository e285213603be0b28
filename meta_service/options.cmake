# Options of the meta service, apart from the service so that tools and tests can read its conf file.
mmc_library(mmc_meta_options
  HEADERS options.h
  SOURCES options.cc
  DEPS mmc_config mmc_security)
