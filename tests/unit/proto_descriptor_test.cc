// The messages and method numbers are the protocol between versions. This compares them with what is checked in, so
// that a change is seen and judged: fields may be added; numbers, types and meanings never change.
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "proto/engine_methods.h"
#include "proto/methods.h"

namespace mmc::proto {
namespace {

template <typename Req, typename Rep>
std::string MethodLine(const rpc::Method<Req, Rep>& method) {
  return "method " + std::to_string(method.id) + " " + method.name + " " + Req::descriptor()->name() + " -> " +
         Rep::descriptor()->name() + "\n";
}

template <typename... Methods>
std::string MethodLines(const Methods&... methods) {
  return (MethodLine(methods) + ...);
}

std::string Dump() {
  return KeyList::descriptor()->file()->DebugString() + "\n" + Empty::descriptor()->file()->DebugString() + "\n" +
         EngineRegion::descriptor()->file()->DebugString() + "\n" +
         MethodLines(kOpenSession, kSessionHeartbeat, kCloseSession, kPutStart, kPutCommit, kPutAbort, kLookup, kUnpin,
                     kLookupPrefix, kExists, kStat, kRemove, kRemoveAll, kRemoveByPrefix, kList, kJoin, kNodeHeartbeat,
                     kNodeLeave, kCatalogSync, kReportReplica, kDirectory, kClusterStatus, kCatalogReport, kDrain,
                     kScrub, kScrubStatus, kDescribeEngine, kEngineNote);
}

TEST(ProtoDescriptors, AreAsCheckedIn) {
  const std::string now = Dump();
  if (const char* update = std::getenv("MMC_UPDATE_GOLDEN"); update != nullptr && std::string_view(update) == "1") {
    std::ofstream(MMC_GOLDEN_FILE) << now;
    GTEST_SKIP() << MMC_GOLDEN_FILE << " is written anew";
  }
  std::ifstream file(MMC_GOLDEN_FILE);
  std::ostringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(now, golden.str())
      << "The protocol changed. If old and new programs still understand each other (fields added, nothing renumbered "
         "or retyped), run this test once with MMC_UPDATE_GOLDEN=1 and check in tests/golden/proto_descriptors.txt.";
}

}  // namespace
}  // namespace mmc::proto
