#include "common/rpc/frame_reader.h"

#include <algorithm>

namespace mmc::rpc {
namespace {

constexpr size_t kMinRoom = 4096;
constexpr size_t kMaxRoom = 256 * 1024;

}  // namespace

std::span<std::byte> FrameReader::Prepare() {
  buffer_.Consume(taken_);
  taken_ = 0;
  const std::span<std::byte> room = buffer_.Prepare(room_);
  return room.first(std::min(room.size(), kMaxRoom));
}

void FrameReader::Commit(size_t bytes) {
  buffer_.Commit(bytes);
  room_ = bytes >= room_ ? std::min(room_ * 2, kMaxRoom) : std::max(room_ / 2, kMinRoom);
}

FrameReader::Next FrameReader::Take(Frame* out) {
  buffer_.Consume(taken_);
  taken_ = 0;
  if (!error_.ok()) return Next::kBad;
  const std::span<const std::byte> data = buffer_.data();
  if (data.size() < kHeaderBytes) return Next::kMore;
  const auto raw = data.first<kHeaderBytes>();
  Result<FrameHeader> header = DecodeHeader(raw);
  if (!header.ok()) {
    error_ = header.status();
    error_request_id_ = PeekRequestId(raw);
    return Next::kBad;
  }
  const size_t total = kHeaderBytes + header->body_bytes + header->attachment_bytes;
  if (data.size() < total) return Next::kMore;
  out->header = *header;
  out->body = data.subspan(kHeaderBytes, header->body_bytes);
  out->attachment = data.subspan(kHeaderBytes + header->body_bytes, header->attachment_bytes);
  taken_ = total;
  return Next::kFrame;
}

void FrameReader::Reset() {
  buffer_.Clear();
  taken_ = 0;
  room_ = kMinRoom;
  error_ = Status::Ok();
  error_request_id_ = 0;
}

}  // namespace mmc::rpc
