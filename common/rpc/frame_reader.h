// Cuts a stream of bytes into frames: reads go straight into its buffer, frames are views of it.
//
// Thread safety: none; one owner at a time. Ownership: owns the buffer; a frame's views end with the next Prepare().
// Memory: a header is judged before anything is taken for its body, and the buffer grows with what has arrived, not
// with what a header claims.
#pragma once

#include <span>

#include "common/base/status.h"
#include "common/rpc/byte_buffer.h"
#include "common/rpc/frame.h"

namespace mmc::rpc {

struct Frame {
  FrameHeader header;
  std::span<const std::byte> body;
  std::span<const std::byte> attachment;
};

class FrameReader {
 public:
  enum class Next { kFrame, kMore, kBad };

  // Where the next read goes.
  std::span<std::byte> Prepare();
  void Commit(size_t bytes);
  // The next complete frame. After kBad the stream is lost: nothing more comes out.
  Next Take(Frame* out);

  // REQUIRES: Take() answered kBad.
  const Status& error() const { return error_; }
  uint64_t error_request_id() const { return error_request_id_; }

  // A frame has begun and is not complete. Meaningful after Take() answered kMore.
  bool partial() const { return !buffer_.empty(); }
  size_t memory() const { return buffer_.capacity(); }
  void Reset();

 private:
  ByteBuffer buffer_;
  size_t taken_ = 0;      // bytes of the frame handed out last; dropped at the next Take or Prepare
  size_t room_ = 4096;    // of the next read; doubles while reads fill it
  Status error_;
  uint64_t error_request_id_ = 0;
};

}  // namespace mmc::rpc
