#include "proto/names.h"

#include "proto/types.pb.h"

namespace mmc::proto {

const char* MediumName(int medium) {
  switch (medium) {
    case MEDIUM_DRAM:
      return "dram";
    case MEDIUM_HBM:
      return "hbm";
    case MEDIUM_SSD:
      return "ssd";
    default:
      return "unknown";
  }
}

const char* NodeStateName(int state) {
  switch (state) {
    case NODE_SERVING:
      return "serving";
    case NODE_SUSPECT:
      return "suspect";
    case NODE_DEAD:
      return "dead";
    case NODE_LEAVING:
      return "leaving";
    case NODE_RECOVERING:
      return "recovering";
    case NODE_DRAINING:
      return "draining";
    default:
      return "unknown";
  }
}

}  // namespace mmc::proto
