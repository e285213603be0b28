// Any bytes, in any pieces, into the frame reader of both sides: no crash, no memory beyond what came, and every frame
// that comes out encodes to the bytes that went in.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "common/base/limits.h"
#include "common/rpc/frame_reader.h"
#include "common/rpc/wire.h"
#include "proto/meta.pb.h"

namespace {

using namespace mmc::rpc;  // NOLINT: this file is about nothing else

void Check(bool holds) {
  if (!holds) std::abort();
}

// Takes every complete frame; returns the bytes they had.
size_t TakeAll(FrameReader& reader, std::span<const std::byte> at) {
  size_t taken = 0;
  Frame frame;
  while (reader.Take(&frame) == FrameReader::Next::kFrame) {
    const FrameHeader& header = frame.header;
    Check(header.body_bytes <= mmc::kMaxFrameBody && header.attachment_bytes <= mmc::kMaxFrameAttachment);
    const size_t bytes = kHeaderBytes + header.body_bytes + header.attachment_bytes;
    Check(taken + bytes <= at.size());
    std::byte again[kHeaderBytes];
    EncodeHeader(header, again);
    // The last four bytes of another version's header are its own.
    Check(std::memcmp(again, at.data() + taken, header.version == kVersion ? kHeaderBytes : 28) == 0);
    const std::byte* sent = at.data() + taken + kHeaderBytes;
    Check(frame.body.empty() || std::memcmp(frame.body.data(), sent, frame.body.size()) == 0);
    mmc::proto::PutStartRequest message;
    (void)ParseBody(frame.body, &message);
    taken += bytes;
  }
  return taken;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t step = 1 + data[0];
  const auto stream = std::as_bytes(std::span(data + 1, size - 1));
  FrameReader reader;
  size_t fed = 0, taken = 0;
  while (fed < stream.size()) {
    const std::span<std::byte> room = reader.Prepare();
    const size_t bytes = std::min({room.size(), step, stream.size() - fed});
    std::memcpy(room.data(), stream.data() + fed, bytes);
    reader.Commit(bytes);
    fed += bytes;
    taken += TakeAll(reader, stream.subspan(taken, fed - taken));
    Check(reader.memory() <= 4 * fed + 1024 * 1024);
  }
  return 0;
}
