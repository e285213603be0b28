// A growing run of bytes with a read end and a write end: what both sides read into and write from.
//
// Thread safety: none; one owner at a time. Ownership: owns its memory. Bytes are not zeroed first, and a buffer that
// once held something big gives that memory back when it is empty.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace mmc::rpc {

class ByteBuffer {
 public:
  ByteBuffer() = default;
  ByteBuffer(ByteBuffer&& other) noexcept { Swap(other); }
  ByteBuffer& operator=(ByteBuffer&& other) noexcept {
    ByteBuffer taken(std::move(other));
    Swap(taken);
    return *this;
  }

  size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  size_t capacity() const { return capacity_; }
  std::span<const std::byte> data() const { return {memory_.get() + begin_, size()}; }
  std::byte* mutable_data() { return memory_.get() + begin_; }

  // Room for at least `bytes` at the write end; the span is all the room there is.
  std::span<std::byte> Prepare(size_t bytes) {
    if (capacity_ - end_ < bytes) MakeRoom(bytes);
    return {memory_.get() + end_, capacity_ - end_};
  }
  // The first `bytes` of the prepared room are written. REQUIRES: bytes <= room.
  void Commit(size_t bytes) { end_ += bytes; }
  void Append(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    std::memcpy(Prepare(bytes.size()).data(), bytes.data(), bytes.size());
    Commit(bytes.size());
  }
  // REQUIRES: bytes <= size().
  void Consume(size_t bytes) {
    begin_ += bytes;
    if (begin_ == end_) Clear();
  }
  // Takes the last `bytes` back. REQUIRES: bytes <= size().
  void Unwrite(size_t bytes) { end_ -= bytes; }
  void Clear() {
    begin_ = end_ = 0;
    if (capacity_ > kKeep) {
      memory_.reset();
      capacity_ = 0;
    }
  }
  void Swap(ByteBuffer& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(begin_, other.begin_);
    std::swap(end_, other.end_);
    std::swap(capacity_, other.capacity_);
  }

 private:
  static constexpr size_t kKeep = size_t{1} << 20;
  static constexpr size_t kFirst = 4096;

  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  void MakeRoom(size_t bytes) {
    const size_t held = size();
    // Moving is worth it only when it frees much; else every small read of a big frame would move the whole.
    if (begin_ >= held && capacity_ - held >= bytes) {
      if (held > 0) std::memmove(memory_.get(), memory_.get() + begin_, held);
    } else {
      size_t bigger = capacity_ == 0 ? kFirst : capacity_ * 2;
      while (bigger - held < bytes) bigger *= 2;
      std::unique_ptr<std::byte, Free> fresh(static_cast<std::byte*>(std::malloc(bigger)));
      if (!fresh) throw std::bad_alloc();
      if (held > 0) std::memcpy(fresh.get(), memory_.get() + begin_, held);
      memory_ = std::move(fresh);
      capacity_ = bigger;
    }
    begin_ = 0;
    end_ = held;
  }

  std::unique_ptr<std::byte, Free> memory_;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t capacity_ = 0;
};

}  // namespace mmc::rpc
