#include "common/rpc/frame.h"

#include <bit>
#include <cstring>

#include "common/base/limits.h"

namespace mmc::rpc {
namespace {

static_assert(std::endian::native == std::endian::little, "headers are copied as they lie in memory");

template <typename T>
void Put(std::span<std::byte, kHeaderBytes> out, size_t at, T value) {
  std::memcpy(out.data() + at, &value, sizeof(value));
}

template <typename T>
T Get(std::span<const std::byte, kHeaderBytes> in, size_t at) {
  T value;
  std::memcpy(&value, in.data() + at, sizeof(value));
  return value;
}

constexpr uint8_t kTlsRecords = 20;  // a TLS record begins with its type, 20 to 24, and the version, 3

Status TooLong(const char* what, uint32_t bytes, uint32_t most) {
  return Status(Code::kTooLarge, std::string("a frame with ") + std::to_string(bytes) + " bytes of " + what +
                                     "; at most " + std::to_string(most) + ": split the batch");
}

}  // namespace

void EncodeHeader(const FrameHeader& header, std::span<std::byte, kHeaderBytes> out) {
  Put(out, 0, kMagic);
  Put(out, 4, header.version);
  Put(out, 5, static_cast<uint8_t>(header.kind));
  Put(out, 6, header.method);
  Put(out, 8, header.request_id);
  Put(out, 16, header.deadline_or_status);
  Put(out, 20, header.body_bytes);
  Put(out, 24, header.attachment_bytes);
  Put(out, 28, uint32_t{0});
}

Result<FrameHeader> DecodeHeader(std::span<const std::byte, kHeaderBytes> in) {
  const auto first = Get<uint8_t>(in, 0);
  if (first >= kTlsRecords && first < kTlsRecords + 5 && Get<uint8_t>(in, 1) == 3) {
    return Status(Code::kMalformed, "these bytes are TLS, and this end does not speak it; set ock.mmc.tls.enable the "
                                    "same on both ends");
  }
  if (Get<uint32_t>(in, 0) != kMagic) {
    return Status(Code::kMalformed, "the magic is wrong: this is no MMC1 frame; check what connects to this port");
  }
  FrameHeader header;
  header.version = Get<uint8_t>(in, 4);
  const auto kind = Get<uint8_t>(in, 5);
  if (kind > static_cast<uint8_t>(FrameKind::kGoAway)) {
    return Status(Code::kMalformed, "frame kind " + std::to_string(kind) + " is not known");
  }
  header.kind = static_cast<FrameKind>(kind);
  header.method = Get<uint16_t>(in, 6);
  header.request_id = Get<uint64_t>(in, 8);
  header.deadline_or_status = Get<uint32_t>(in, 16);
  header.body_bytes = Get<uint32_t>(in, 20);
  header.attachment_bytes = Get<uint32_t>(in, 24);
  if (header.body_bytes > kMaxFrameBody) return TooLong("body", header.body_bytes, kMaxFrameBody);
  if (header.attachment_bytes > kMaxFrameAttachment) {
    return TooLong("attachment", header.attachment_bytes, kMaxFrameAttachment);
  }
  // What a newer version keeps in the reserved bytes is its business.
  if (header.version == kVersion && Get<uint32_t>(in, 28) != 0) {
    return Status(Code::kMalformed, "the reserved bytes of a frame are not 0");
  }
  return header;
}

uint64_t PeekRequestId(std::span<const std::byte, kHeaderBytes> in) {
  return Get<uint32_t>(in, 0) == kMagic ? Get<uint64_t>(in, 8) : 0;
}

}  // namespace mmc::rpc
