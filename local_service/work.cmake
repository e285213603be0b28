# Copies and checks that the meta service asks a node for.
target_sources(mmc_local
  PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES copier.h held_bytes.h node_work.h scrubber.h
  PRIVATE copier.cc held_bytes.cc node_work.cc scrubber.cc)
