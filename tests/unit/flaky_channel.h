// A channel whose answers get lost while the test wants that.
//
// Thread safety: as rpc::Channel; `broken` from any thread. Ownership: shares the channel below.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "common/rpc/channel.h"

namespace mmc::test {

// Fails calls as a broken connection would, while the test wants that.
class FlakyChannel final : public rpc::Channel {
 public:
  explicit FlakyChannel(std::shared_ptr<rpc::Channel> inner) : inner_(std::move(inner)) {}
  Status CallRaw(uint16_t method, const google::protobuf::MessageLite& request,
                 google::protobuf::MessageLite* reply, TimePoint deadline) override {
    return inner_->CallRaw(method, request, reply, deadline);
  }
  void CallRawAsync(uint16_t method, const google::protobuf::MessageLite& request,
                    google::protobuf::MessageLite* reply, TimePoint deadline,
                    std::function<void(Status)> done) override {
    const bool cut = broken;
    if (cut) ++cut_calls;
    // The request arrives, the answer does not.
    inner_->CallRawAsync(method, request, reply, deadline,
                         [cut, done = std::move(done)](Status status) {
                           done(cut ? Status(Code::kConnectionLost) : std::move(status));
                         });
  }
  void Close() override { inner_->Close(); }
  uint64_t connection_epoch() const override { return inner_->connection_epoch(); }

  std::atomic<bool> broken{false};
  std::atomic<int> cut_calls{0};

 private:
  const std::shared_ptr<rpc::Channel> inner_;
};

}  // namespace mmc::test
