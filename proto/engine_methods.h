// The methods of a transfer engine: number (on the wire, never reused, no other service has it), name, messages.
#pragma once

#include "common/rpc/method.h"
#include "proto/engine.pb.h"

namespace mmc::proto {

inline constexpr rpc::Method<DescribeEngineRequest, DescribeEngineReply> kDescribeEngine{100, "DescribeEngine"};
inline constexpr rpc::Method<EngineNoteRequest, EngineNoteReply> kEngineNote{101, "EngineNote"};

}  // namespace mmc::proto
