# Copies between nodes, draining, checks of what nodes hold.
target_sources(mmc_meta
  PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES
    mover/mover.h mover/mover_job.h mover/mover_metrics.h mover/scrubs.h
  PRIVATE
    mover/membership_drain.cc mover/mover.cc mover/mover_job.cc mover/mover_metrics.cc mover/scrubs.cc
    ops/drain.cc ops/scrub.cc)
