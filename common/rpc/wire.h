// Messages into frames and back, the same on both sides.
//
// Thread safety: pure functions over what the caller owns.
#pragma once

#include <google/protobuf/message_lite.h>

#include <chrono>
#include <span>
#include <string_view>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/byte_buffer.h"
#include "common/rpc/frame.h"

namespace mmc::rpc {

// The longest deadline of a call; longer ones are cut to it on both sides.
inline constexpr std::chrono::hours kMaxDeadline{1};

// How long a thread may poll before it sleeps: nothing on a small machine, where it would take the core that the
// answer is made on.
Duration SpinTime(std::chrono::microseconds wanted);

// Milliseconds for the header: at least 1 (0 means none), at most kMaxDeadline.
uint32_t RemainingMs(TimePoint now, TimePoint deadline);

// Appends header and message. Errors: kTooLarge (nothing is appended).
Status AppendMessage(FrameHeader header, const google::protobuf::MessageLite& message, ByteBuffer* out);
// Appends a frame whose body is the text of a failure; long texts are cut.
void AppendFailure(FrameHeader header, const Status& status, ByteBuffer* out);
// Errors: kMalformed.
Status ParseBody(std::span<const std::byte> body, google::protobuf::MessageLite* out);

inline std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace mmc::rpc
