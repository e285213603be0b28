#include "common/rpc/worker.h"

#include <glog/logging.h>
#include <google/protobuf/message_lite.h>
#include <pthread.h>

#include "common/base/thread.h"
#include "common/rpc/wire.h"

namespace mmc::rpc {
namespace {

thread_local Worker* current_worker = nullptr;

}  // namespace

Worker::Worker(ServerCore& core, int number) : core_(core), number_(number) {}

Worker::~Worker() { Stop(); }

void Worker::Start() {
  messages_.resize(core_.methods.size());
  thread_ = StartThread([this] { Run(); });
}

void Worker::Stop() {
  if (!thread_.joinable()) return;
  io_.stop();
  thread_.join();
}

Worker* Worker::Current() { return current_worker; }

void Worker::Run() {
  current_worker = this;
  pthread_setname_np(pthread_self(), ("mmc-rpc-" + std::to_string(number_)).c_str());
  const Duration spin = SpinTime(core_.options.spin);
  if (spin == Duration::zero()) {
    io_.run();
    return;
  }
  // Polling for a moment after the last event saves the sleep and the wake-up of a peer that answers at once.
  while (!io_.stopped()) {
    TimePoint until = std::chrono::steady_clock::now() + spin;
    while (std::chrono::steady_clock::now() < until) {
      if (io_.poll() > 0) until = std::chrono::steady_clock::now() + spin;
      if (io_.stopped()) return;
    }
    io_.run_one();
  }
}

Worker::Messages& Worker::MessagesOf(const MethodEntry& method) {
  Messages& messages = messages_[method.index];
  if (!messages.request) messages.request = method.make_request();
  if (!messages.reply) messages.reply = method.make_reply();
  return messages;
}

void Worker::Add(std::shared_ptr<ServedConnection> connection) {
  ServedConnection* key = connection.get();
  connections_.emplace(key, std::move(connection));
}

void Worker::AddHandshake(std::shared_ptr<Handshake> handshake, size_t most) {
  while (handshakes_.size() >= most && !handshakes_.empty()) {
    const std::shared_ptr<Handshake> oldest = std::move(handshakes_.front());
    handshakes_.pop_front();
    oldest->GiveWay();
  }
  handshakes_.push_back(std::move(handshake));
}

void Worker::RemoveHandshake(const Handshake* handshake) {
  std::erase_if(handshakes_, [handshake](const auto& other) { return other.get() == handshake; });
}

void Worker::CloseHandshakes() {
  for (const auto& handshake : handshakes_) handshake->Close();
}

void Worker::AddLocal(std::weak_ptr<CallSink> sink) {
  std::erase_if(local_, [](const std::weak_ptr<CallSink>& old) { return old.expired(); });
  local_.push_back(std::move(sink));
}

void Worker::CancelLocal(const Status& why) {
  for (const auto& weak : local_) {
    if (const auto sink = weak.lock()) sink->CancelAll(why);
  }
}

std::vector<std::shared_ptr<ServedConnection>> Worker::Connections() const {
  std::vector<std::shared_ptr<ServedConnection>> out;
  out.reserve(connections_.size());
  for (const auto& [key, connection] : connections_) out.push_back(connection);
  return out;
}

}  // namespace mmc::rpc
