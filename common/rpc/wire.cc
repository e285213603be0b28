#include "common/rpc/wire.h"

#include <algorithm>
#include <thread>

#include "common/base/limits.h"

namespace mmc::rpc {
namespace {

constexpr size_t kMaxFailureText = 4096;
constexpr unsigned kMinCoresToSpin = 4;

}  // namespace

Duration SpinTime(std::chrono::microseconds wanted) {
  return std::thread::hardware_concurrency() < kMinCoresToSpin ? Duration::zero() : Duration(wanted);
}

uint32_t RemainingMs(TimePoint now, TimePoint deadline) {
  if (deadline <= now) return 1;
  if (deadline - now >= kMaxDeadline) return std::chrono::milliseconds(kMaxDeadline).count();
  // Rounded up: a service that answers in the last part of a millisecond still counts.
  return static_cast<uint32_t>(std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count());
}

Status AppendMessage(FrameHeader header, const google::protobuf::MessageLite& message, ByteBuffer* out) {
  const size_t bytes = message.ByteSizeLong();
  if (bytes > kMaxFrameBody) {
    return Status(Code::kTooLarge, "a message of " + std::to_string(bytes) + " bytes; at most " +
                                       std::to_string(kMaxFrameBody) + ": split the batch");
  }
  header.body_bytes = static_cast<uint32_t>(bytes);
  header.attachment_bytes = 0;
  std::byte* at = out->Prepare(kHeaderBytes + bytes).data();
  EncodeHeader(header, std::span<std::byte, kHeaderBytes>(at, kHeaderBytes));
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(at + kHeaderBytes));
  out->Commit(kHeaderBytes + bytes);
  return Status::Ok();
}

void AppendFailure(FrameHeader header, const Status& status, ByteBuffer* out) {
  const std::string& text = status.message();
  const size_t bytes = std::min(text.size(), kMaxFailureText);
  header.deadline_or_status = static_cast<uint32_t>(status.code());
  header.body_bytes = static_cast<uint32_t>(bytes);
  header.attachment_bytes = 0;
  std::byte* at = out->Prepare(kHeaderBytes + bytes).data();
  EncodeHeader(header, std::span<std::byte, kHeaderBytes>(at, kHeaderBytes));
  if (bytes > 0) std::memcpy(at + kHeaderBytes, text.data(), bytes);
  out->Commit(kHeaderBytes + bytes);
}

Status ParseBody(std::span<const std::byte> body, google::protobuf::MessageLite* out) {
  if (out->ParseFromArray(body.data(), static_cast<int>(body.size()))) return Status::Ok();
  return Status(Code::kMalformed,
                "a body of " + std::to_string(body.size()) + " bytes does not parse as " + out->GetTypeName());
}

}  // namespace mmc::rpc
